// For tests: a listener that keeps what it hears.
#pragma once

#include <doctest/doctest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "mlx_flash/generation.h"

namespace mlx_flash {

class RecordingListener : public GenerationListener {
 public:
  std::function<void()> at_text;
  std::function<void()> at_end;
  std::function<void(const GenerationProgress&)> at_progress;

  void on_progress(const GenerationProgress& now) override {
    {
      std::lock_guard lock(mutex_);
      progress.push_back(now);
    }
    if (at_progress) {
      at_progress(now);
    }
  }

  void on_text(std::string_view more, std::span<const ChosenToken> more_tokens)
      override {
    CHECK(!(more.empty() && more_tokens.empty()));
    {
      std::lock_guard lock(mutex_);
      text += more;
      for (const ChosenToken& token : more_tokens) {
        tokens.push_back(token.id);
        chosen.push_back(token);
      }
      changed_.notify_all();
    }
    if (at_text) {
      at_text();
    }
  }

  void on_end(GenerationResult what, std::exception_ptr why) override {
    if (at_end) {
      at_end();
    }
    std::lock_guard lock(mutex_);
    CHECK(!ended);
    result = std::move(what);
    error = why;
    ended = true;
    changed_.notify_all();
  }

  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended || tokens.size() >= count; });
  }
  void wait_for_end() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended; });
  }

  bool has_ended() const {
    std::lock_guard lock(mutex_);
    return ended;
  }

  ErrorCode code() const {
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      return e.code();
    }
  }

  // To be read after the end.
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<ChosenToken> chosen;
  std::vector<GenerationProgress> progress;
  GenerationResult result;
  std::exception_ptr error;
  bool ended = false;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
};

} // namespace mlx_flash
