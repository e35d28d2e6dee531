// For tests, and for a server without a model: an Engine whose answers are
// written by a function. It has a thread, steps, a queue, a prompt cache and
// sessions like the real one, and its tests decide (Scripted) when it makes a
// step, when it is loaded, and when it fails.
//
// Thread rule: as Engine and Session have it.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "mlx_flash/engine.h"
#include "server/server_options.h"
#include "server/test_scripted.h"
#include "server/test_scripted_core.h"
#include "server/test_scripted_text.h"

namespace mlx_flash::server {

class ScriptedSession : public Session {
 public:
  explicit ScriptedSession(std::shared_ptr<ScriptedCore> core)
      : core_(std::move(core)) {
    std::lock_guard lock(core_->state()->mutex);
    if (++core_->state()->sessions > core_->max_sessions()) {
      --core_->state()->sessions;
      throw Error(ErrorCode::invalid_argument, "[scripted] too many sessions");
    }
  }
  ~ScriptedSession() override {
    std::lock_guard lock(core_->state()->mutex);
    --core_->state()->sessions;
    if (run_) {
      run_->dropped = true;
      core_->state()->changed.notify_all();
    }
  }

  uint64_t length() const override {
    return *length_;
  }

  GenerationResult generate(
      std::span<const TokenId> prompt,
      const GenerationOptions& options,
      const OnText& on_text) override {
    const auto waiter = std::make_shared<Waiter>(on_text);
    start({prompt.begin(), prompt.end()}, options, waiter);
    return waiter->wait();
  }

  void start(
      std::vector<TokenId> prompt,
      const GenerationOptions& options,
      std::shared_ptr<GenerationListener> listener) override {
    if (options.max_tokens == 0) {
      throw Error(ErrorCode::invalid_argument, "[scripted] max_tokens is 0");
    }
    const auto run = std::make_shared<ScriptedRun>();
    run->prompt = std::move(prompt);
    run->options = options;
    run->listener = std::move(listener);
    run->length = length_;
    {
      std::lock_guard lock(core_->state()->mutex);
      run->cancelled = std::exchange(cancel_next_, false);
      run_ = run;
    }
    core_->submit(run);
  }

  ScoreResult score(std::span<const TokenId> ids, int top) override {
    if (ids.size() < 2) {
      throw Error(ErrorCode::invalid_argument, "[scripted] give two tokens");
    }
    wait_for_step();
    ScoreResult result;
    result.ids.assign(ids.begin(), ids.end());
    for (const TokenId id : ids.subspan(1)) {
      result.logprobs.push_back(scripted_logprob(id));
      if (top > 0) {
        result.top.push_back(scripted_top(id, top));
      }
    }
    *length_ = ids.size();
    return result;
  }

  // An answer of one token whose text nobody hears of.
  void start_embedding(std::vector<TokenId> tokens, OnEmbedding on_end)
      override {
    class Ending : public GenerationListener {
     public:
      Ending(
          std::vector<TokenId> tokens,
          std::shared_ptr<std::atomic<uint64_t>> length,
          OnEmbedding on_end)
          : tokens_(std::move(tokens)),
            length_(std::move(length)),
            on_end_(std::move(on_end)) {}

      void on_text(std::string_view, std::span<const ChosenToken>) override {}
      void on_end(GenerationResult result, std::exception_ptr error) override {
        *length_ = 0;
        if (!error && result.finish_reason == FinishReason::cancelled) {
          error = std::make_exception_ptr(
              Error(ErrorCode::cancelled, "[scripted] cancelled"));
        }
        on_end_(
            error ? std::vector<float>() : scripted_embedding(tokens_), error);
      }

     private:
      const std::vector<TokenId> tokens_;
      const std::shared_ptr<std::atomic<uint64_t>> length_;
      const OnEmbedding on_end_;
    };
    GenerationOptions options;
    options.max_tokens = 1;
    const auto listener =
        std::make_shared<Ending>(tokens, length_, std::move(on_end));
    start(std::move(tokens), options, listener);
  }

  std::vector<float> extend(std::span<const TokenId>, Logits) override {
    throw Error(ErrorCode::unsupported, "[scripted] there are no logits");
  }
  void rewind(uint64_t length) override {
    *length_ = std::min<uint64_t>(*length_, length);
  }
  void cancel() override {
    std::lock_guard lock(core_->state()->mutex);
    if (run_ && !run_->ended) {
      run_->cancelled = true;
    } else {
      cancel_next_ = true; // which a score that waits looks at
    }
    core_->state()->changed.notify_all();
  }

 private:
  class Waiter : public GenerationListener {
   public:
    explicit Waiter(OnText on_text) : on_text_(std::move(on_text)) {}

    void on_text(std::string_view text, std::span<const ChosenToken>) override {
      if (on_text_ && !text.empty()) {
        on_text_(text);
      }
    }
    void on_end(GenerationResult result, std::exception_ptr error) override {
      std::lock_guard lock(mutex_);
      result_ = std::move(result);
      error_ = error;
      ended_ = true;
      changed_.notify_all();
    }
    GenerationResult wait() {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ended_; });
      if (error_) {
        std::rethrow_exception(error_);
      }
      return result_;
    }

   private:
    const OnText on_text_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ended_ = false;
    GenerationResult result_;
    std::exception_ptr error_;
  };

  // A score is one step.
  void wait_for_step() {
    auto& state = *core_->state();
    std::unique_lock lock(state.mutex);
    state.changed.wait(
        lock, [&] { return cancel_next_ || !state.steps || *state.steps > 0; });
    if (std::exchange(cancel_next_, false)) {
      throw Error(ErrorCode::cancelled, "[scripted] the score was cancelled");
    }
    if (state.steps) {
      --*state.steps;
    }
  }

  const std::shared_ptr<ScriptedCore> core_;
  const std::shared_ptr<std::atomic<uint64_t>> length_ =
      std::make_shared<std::atomic<uint64_t>>(0);
  std::shared_ptr<ScriptedRun> run_; // the last one
  bool cancel_next_ = false;
};

class ScriptedEngine : public Engine {
 public:
  ScriptedEngine(
      std::shared_ptr<ScriptedCore> core,
      const ScriptedSetup& setup,
      std::function<void()> gone)
      : core_(std::move(core)),
        sampling_(setup.sampling),
        max_tokens_(setup.max_tokens),
        check_(setup.check),
        gone_(std::move(gone)) {
    plan_.model = "scripted";
    plan_.model_type = "scripted";
    plan_.fits = true;
    plan_.budget_bytes = 6'000'000'000;
    plan_.planned_bytes = 5'000'000'000;
    plan_.accounts = {{"dense_weights", 1'000'000'000}};
    plan_.context_tokens = setup.context_tokens;
    plan_.model_context = setup.model_context;
    plan_.prefill_chunk = setup.prefill_chunk;
  }
  ~ScriptedEngine() override {
    core_->close();
    gone_();
  }

  const Plan& plan() const override {
    return plan_;
  }
  Stats stats() const override {
    return core_->stats();
  }
  const Text& text() const override {
    return text_;
  }
  const SamplingOptions& default_sampling() const override {
    return sampling_;
  }
  uint64_t default_max_tokens() const override {
    return max_tokens_;
  }
  const std::vector<TokenId>& end_tokens() const override {
    return end_tokens_;
  }
  uint64_t vocab_size() const override {
    return kScriptedVocab;
  }
  void check(const Constraint& constraint) const override {
    check_(constraint);
  }
  std::unique_ptr<Session> new_session() override {
    return std::make_unique<ScriptedSession>(core_);
  }

 private:
  const std::shared_ptr<ScriptedCore> core_;
  const SamplingOptions sampling_;
  const uint64_t max_tokens_;
  const std::function<void(const Constraint&)> check_;
  const std::vector<TokenId> end_tokens_{kScriptedEnd};
  const std::function<void()> gone_;
  const ScriptedText text_;
  Plan plan_;
};

inline std::unique_ptr<Engine> Scripted::open(const EngineOptions& options) {
  std::unique_lock lock(state_->mutex);
  ++state_->opened;
  state_->changed.wait(lock, [&] { return !state_->loading_held; });
  if (!state_->loading_failure.empty()) {
    throw Error(ErrorCode::io, state_->loading_failure);
  }
  ++state_->engines;
  lock.unlock();
  return std::make_unique<ScriptedEngine>(
      std::make_shared<ScriptedCore>(state_, options),
      state_->setup,
      [state = state_] {
        std::lock_guard closing(state->mutex);
        --state->engines;
      });
}

// A server's options with two models, "scripted" (also called "default") and
// "other", that `scripted` opens.
inline ServerOptions scripted_options(Scripted scripted) {
  ServerOptions options;
  options.models = {{"scripted", {"default"}, {}}, {"other", {}, {}}};
  options.models[0].engine.model = "models/scripted";
  options.models[1].engine.model = "models/other";
  options.open_engine = [scripted](const EngineOptions& engine) mutable {
    return scripted.open(engine);
  };
  return options;
}

} // namespace mlx_flash::server
