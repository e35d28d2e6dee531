// For tests: what the scripted engine (test_scripted_engine.h) is told, and
// what a test holds of it.
//
// Thread rule: Scripted from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mlx_flash/engine.h"
#include "server/test_scripted_text.h"

namespace mlx_flash::server {

struct ScriptedRequest {
  size_t number = 0; // of all requests, from 0, as their turns came
  std::string prompt; // with its marks
  std::vector<TokenId> tokens;
  GenerationOptions options;
};

struct ScriptedAnswer {
  ScriptedAnswer(std::string what) : text(std::move(what)) {}
  ScriptedAnswer(const char* what) : text(what) {}

  // Ends with the end token, which need not be in here.
  std::string text;
  // If there is one, it says what each token is when its turn comes, and
  // nothing at the end; `text` is not looked at.
  std::function<std::optional<std::string>()> next_piece{};
  // Instead of its token of that number (0: the first) it fails with an Error.
  std::optional<size_t> fails_at{};
  ErrorCode code = ErrorCode::internal;
  std::string why = "[scripted] failed as it was told to";
};

// Called on the engine's thread when a prompt's turn has come. An Error that
// it throws is the end of the answer.
using Script = std::function<ScriptedAnswer(const ScriptedRequest& request)>;

struct ScriptedSetup {
  Script script = [](const ScriptedRequest&) { return "Hello!"; };
  uint64_t context_tokens = 4096;
  uint64_t model_context = 4096;
  uint64_t prefill_chunk = 256; // tokens of a prompt that a step reads
  SamplingOptions sampling{};
  uint64_t max_tokens = 0; // the model's default
  // Throws for constraints that cannot be compiled.
  std::function<void(const Constraint& constraint)> check =
      [](const Constraint&) {};
  double step_seconds = 0; // that a step takes
};

// A token's made-up log-probability, and those of the best ones at its place,
// of which it is the first. Sessions say the same of answers and of scores.
inline double scripted_logprob(TokenId id) {
  return -0.1 - 0.1 * (id % 7);
}
inline std::vector<TokenLogprob> scripted_top(TokenId id, int count) {
  std::vector<TokenLogprob> top;
  for (int i = 0; i < count; ++i) {
    top.push_back(
        {static_cast<TokenId>((id + i) % kScriptedVocab),
         scripted_logprob(id) - 3.0 * i});
  }
  return top;
}

// A made-up embedding: how many tokens, the first, the last, and a half.
inline EmbeddingForm scripted_form() {
  EmbeddingForm form;
  form.pooling = Pooling::last;
  form.dimensions = 4;
  return form;
}
inline std::vector<float> scripted_embedding(std::span<const TokenId> tokens) {
  return {
      static_cast<float>(tokens.size()),
      static_cast<float>(tokens.front()),
      static_cast<float>(tokens.back()),
      0.5f};
}

// What a test holds of its engines. It may be destroyed before them.
class Scripted {
 public:
  explicit Scripted(ScriptedSetup setup = {})
      : state_(std::make_shared<State>()) {
    state_->setup = std::move(setup);
  }

  // For ServerOptions::open_engine.
  std::unique_ptr<Engine> open(const EngineOptions&);

  // From here on steps are made only when the test lets them; prompts of
  // requests whose turn comes are read by steps too. What is cancelled ends
  // nevertheless.
  void hold_steps() {
    set([&] { state_->steps = 0; });
  }
  void let_steps(uint64_t count) {
    set([&] { state_->steps = state_->steps.value_or(0) + count; });
  }
  void release_steps() {
    set([&] { state_->steps.reset(); });
  }
  // None of those that were let is left, so that its effects were told.
  bool steps_done() const {
    std::lock_guard lock(state_->mutex);
    return state_->steps == 0u && !state_->stepping;
  }

  // open() waits, or throws Error(io) with this text unless it is empty.
  void hold_loading() {
    set([&] { state_->loading_held = true; });
  }
  void release_loading() {
    set([&] { state_->loading_held = false; });
  }
  void fail_loading(const std::string& why) {
    set([&] { state_->loading_failure = why; });
  }

  // Those whose turn has come, in that order.
  std::vector<ScriptedRequest> requests() const {
    std::lock_guard lock(state_->mutex);
    return state_->requests;
  }
  // Requests that have neither ended nor been dropped.
  size_t active() const {
    std::lock_guard lock(state_->mutex);
    return state_->active;
  }
  size_t sessions() const { // that are open
    std::lock_guard lock(state_->mutex);
    return state_->sessions;
  }
  size_t engines() const { // that are open
    std::lock_guard lock(state_->mutex);
    return state_->engines;
  }
  size_t opened() const { // calls of open() so far
    std::lock_guard lock(state_->mutex);
    return state_->opened;
  }

 private:
  friend class ScriptedCore;
  friend class ScriptedSession;

  struct State {
    ScriptedSetup setup;
    mutable std::mutex mutex;
    std::condition_variable changed;
    std::optional<uint64_t> steps; // that may be made; empty: any number
    bool stepping = false;
    bool loading_held = false;
    std::string loading_failure;
    std::vector<ScriptedRequest> requests;
    size_t active = 0;
    size_t sessions = 0;
    size_t engines = 0;
    size_t opened = 0;
  };

  template <typename Change>
  void set(const Change& change) {
    std::lock_guard lock(state_->mutex);
    change();
    state_->changed.notify_all();
  }

  const std::shared_ptr<State> state_;
};

} // namespace mlx_flash::server
