// For tests: the thread of a scripted engine, which makes its steps.
//
// Thread rule: all methods from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/test_scripted.h"
#include "server/test_scripted_output.h"

namespace mlx_flash::server {

// One answer. But for its first three flags it is the engine thread's.
struct ScriptedRun {
  std::vector<TokenId> prompt; // with all that its session held before
  GenerationOptions options;
  std::shared_ptr<GenerationListener> listener;
  std::shared_ptr<std::atomic<uint64_t>> length; // of its session
  bool cancelled = false; // by cancel()
  bool dropped = false; // its session is gone
  bool ended = false;

  bool begun = false;
  std::optional<ScriptedAnswer> answer{};
  std::vector<TokenId> tokens{}; // of the answer
  size_t next = 0; // of these
  uint64_t read = 0; // of the prompt
  uint64_t queue_position = 0; // as it was told
  std::optional<ScriptedOutput> output{};
  GenerationResult result{};
};

class ScriptedCore {
 public:
  ScriptedCore(
      std::shared_ptr<Scripted::State> state,
      const EngineOptions& options)
      : state_(std::move(state)),
        running_(
            options.parallel > 0 ? options.parallel : options.max_sessions),
        max_sessions_(options.max_sessions),
        thread_([this] { work(); }) {}
  ~ScriptedCore() {
    close();
  }

  // Ends all answers.
  void close() {
    {
      std::lock_guard lock(state_->mutex);
      closing_ = true;
      state_->changed.notify_all();
    }
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  void submit(std::shared_ptr<ScriptedRun> run) {
    std::lock_guard lock(state_->mutex);
    if (closing_) {
      throw Error(ErrorCode::internal, "[scripted] the engine was closed");
    }
    ++state_->active;
    runs_.push_back(std::move(run));
    state_->changed.notify_all();
  }

  Stats stats() const {
    std::lock_guard lock(state_->mutex);
    return stats_;
  }

  const std::shared_ptr<Scripted::State>& state() const {
    return state_;
  }
  size_t max_sessions() const {
    return max_sessions_;
  }

 private:
  using Run = std::shared_ptr<ScriptedRun>;

  void work() {
    std::unique_lock lock(state_->mutex);
    for (;;) {
      state_->changed.wait(lock, [&] {
        return closing_ || any_to_end() || (!runs_.empty() && may_step());
      });
      end_those_that_should(lock);
      if (closing_) {
        return;
      }
      if (!runs_.empty() && may_step()) {
        step(lock);
      }
    }
  }

  bool may_step() const {
    return !state_->steps || *state_->steps > 0;
  }
  bool any_to_end() const {
    return std::any_of(runs_.begin(), runs_.end(), [](const Run& run) {
      return run->cancelled || run->dropped;
    });
  }

  void end_those_that_should(std::unique_lock<std::mutex>& lock) {
    for (size_t i = 0; i < runs_.size();) {
      const Run run = runs_[i];
      if (!closing_ && !run->cancelled && !run->dropped) {
        ++i;
        continue;
      }
      const bool dropped = run->dropped;
      remove(run);
      lock.unlock();
      run->result.finish_reason = FinishReason::cancelled;
      run->listener->on_end(
          run->result,
          dropped ? std::make_exception_ptr(
                        Error(ErrorCode::cancelled, "[scripted] session ended"))
                  : nullptr);
      lock.lock();
    }
  }

  void remove(const Run& run) {
    const auto found = std::find(runs_.begin(), runs_.end(), run);
    if (found != runs_.end()) {
      runs_.erase(found);
      run->ended = true;
      --state_->active;
    }
  }

  // A token, or a part of the prompt, of all that have room.
  void step(std::unique_lock<std::mutex>& lock) {
    state_->stepping = true;
    ++stats_.steps;
    const std::vector<Run> runs = runs_;
    const size_t room = std::min(running_, runs.size());
    lock.unlock();
    for (size_t i = 0; i < runs.size(); ++i) {
      if (i < room) {
        if (!advance(*runs[i])) {
          lock.lock();
          remove(runs[i]);
          lock.unlock();
        }
      } else {
        tell_queue_position(*runs[i], i - room + 1);
      }
    }
    lock.lock();
    if (state_->steps && *state_->steps > 0) {
      --*state_->steps;
    }
    state_->stepping = false;
    state_->changed.notify_all();
    if (state_->setup.step_seconds > 0) {
      state_->changed.wait_for(
          lock, std::chrono::duration<double>(state_->setup.step_seconds), [&] {
            return closing_ || any_to_end();
          });
    }
  }

  static void tell_queue_position(ScriptedRun& run, uint64_t position) {
    if (std::exchange(run.queue_position, position) != position) {
      run.listener->on_progress({position, run.prompt.size(), 0, 0});
    }
  }

  // False when the answer is over.
  bool advance(ScriptedRun& run) {
    try {
      if (!run.begun) {
        begin(run);
      }
      if (run.read < run.prompt.size()) {
        read_prompt(run);
        return true;
      }
      return next_token(run);
    } catch (...) {
      run.listener->on_end(run.result, std::current_exception());
      return false;
    }
  }

  void begin(ScriptedRun& run) {
    const ScriptedSetup& setup = state_->setup;
    run.begun = true;
    if (run.prompt.empty() || run.prompt.size() > setup.context_tokens) {
      throw Error(
          ErrorCode::invalid_argument, "[scripted] the prompt does not fit");
    }
    ScriptedRequest request{
        0, text_.decode(run.prompt, false), run.prompt, run.options};
    {
      std::lock_guard lock(state_->mutex);
      request.number = state_->requests.size();
      state_->requests.push_back(request);
    }
    run.answer = setup.script(request);
    run.tokens = text_.encode(run.answer->text, false);
    run.tokens.push_back(kScriptedEnd);
    run.output.emplace(run.options.stop_strings);
    run.result.prompt_tokens = run.prompt.size();
    run.result.cached_tokens = cached(run.prompt);
    run.read = run.result.cached_tokens;
    run.listener->on_progress({0, run.prompt.size(), run.read, run.read});
  }

  // Whole pages of what was read before, but never all of it.
  uint64_t cached(const std::vector<TokenId>& prompt) const {
    constexpr size_t kPage = 16;
    size_t longest = 0;
    for (const auto& each : known_) {
      const auto [a, b] =
          std::mismatch(each.begin(), each.end(), prompt.begin(), prompt.end());
      longest = std::max<size_t>(longest, a - each.begin());
    }
    longest = std::min(longest, prompt.size() - 1);
    return longest / kPage * kPage;
  }

  void remember(std::vector<TokenId> tokens) {
    constexpr size_t kMost = 64;
    known_.push_back(std::move(tokens));
    if (known_.size() > kMost) {
      known_.erase(known_.begin());
    }
  }

  void read_prompt(ScriptedRun& run) {
    const uint64_t part = std::min<uint64_t>(
        state_->setup.prefill_chunk, run.prompt.size() - run.read);
    run.read += part;
    *run.length = run.read;
    if (run.read == run.prompt.size()) {
      remember(run.prompt);
    }
    {
      std::lock_guard lock(state_->mutex);
      stats_.prefill_tokens += part;
    }
    run.listener->on_progress(
        {0, run.prompt.size(), run.read, run.result.cached_tokens});
  }

  bool next_token(ScriptedRun& run) {
    const auto& options = run.options;
    if (run.answer->fails_at == run.result.tokens.size()) {
      throw Error(run.answer->code, run.answer->why);
    }
    const auto [token, piece] = take(run);
    const auto& stops = options.stop_tokens;
    if ((token == kScriptedEnd && !options.ignore_eos) ||
        std::find(stops.begin(), stops.end(), token) != stops.end()) {
      run.result.stop_token = token;
      return end(run, FinishReason::stop);
    }
    tell(run, token, piece);
    const uint64_t held = run.prompt.size() + run.result.tokens.size() - 1;
    *run.length = held;
    if (!run.output->stop_string.empty()) {
      return end(run, FinishReason::stop);
    }
    if (run.result.tokens.size() >= options.max_tokens ||
        held >= state_->setup.context_tokens) {
      return end(run, FinishReason::length);
    }
    return true;
  }

  // The next token and its text.
  std::pair<TokenId, std::string> take(ScriptedRun& run) const {
    if (run.answer->next_piece) {
      const auto piece = run.answer->next_piece();
      return {piece ? 'x' : kScriptedEnd, piece.value_or("")};
    }
    const TokenId token = run.tokens[run.next++ % run.tokens.size()];
    return {token, ScriptedText::is_special(token) ? "" : text_.piece(token)};
  }

  void tell(ScriptedRun& run, TokenId token, const std::string& piece) {
    run.result.tokens.push_back(token);
    ChosenToken chosen{token};
    if (run.options.logprobs) {
      chosen.logprob = scripted_logprob(token);
      chosen.top = scripted_top(token, run.options.top_logprobs);
    }
    const std::string text = run.output->push(piece);
    run.result.text += text;
    {
      std::lock_guard lock(state_->mutex);
      ++stats_.decode_tokens;
    }
    run.listener->on_text(text, {&chosen, 1});
  }

  bool end(ScriptedRun& run, FinishReason reason) {
    const std::string text = run.output->flush();
    run.result.text += text;
    if (!text.empty()) {
      run.listener->on_text(text, {});
    }
    run.result.finish_reason = reason;
    run.result.stop_string = run.output->stop_string;
    std::vector<TokenId> all = run.prompt;
    all.insert(all.end(), run.result.tokens.begin(), run.result.tokens.end());
    remember(std::move(all));
    run.listener->on_end(run.result, nullptr);
    return false;
  }

  const std::shared_ptr<Scripted::State> state_;
  const size_t running_;
  const size_t max_sessions_;
  const ScriptedText text_;
  std::vector<Run> runs_; // by when they came
  std::vector<std::vector<TokenId>> known_; // whose keys are there still
  Stats stats_;
  bool closing_ = false;
  std::thread thread_; // the last, because it uses the others
};

} // namespace mlx_flash::server
