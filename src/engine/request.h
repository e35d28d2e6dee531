// One call of a session on its way through the engine thread.
//
// Thread rule: the session's thread fills it in and waits on it; the engine
// thread does the work. What both touch is behind the mutex, or atomic.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "generate/sampler.h"
#include "generate/stop_strings.h"
#include "mlx_flash/generation.h"
#include "text/detokenizer.h"
#include "text/grammar.h"

namespace mlx_flash {

std::exception_ptr make_error(ErrorCode code, const std::string& message);
// What is being thrown, as an Error: MLX throws others.
std::exception_ptr current_error();

// What the engine keeps of one session.
struct Timeline {
  int sequence = -1; // in the KV cache
  std::vector<TokenId> tokens; // that have been read; engine thread only
  std::atomic<uint64_t> length{0}; // of tokens, for everybody
};

struct Request {
  enum class Kind { open, close, rewind, generate, score, extend };

  Kind kind = Kind::generate;
  std::shared_ptr<Timeline> timeline;
  std::vector<TokenId> tokens; // to read: a prompt, a text
  uint64_t rewind_length = 0;
  GenerationOptions options;
  int top = 0; // of a score
  bool all_logits = true; // of an extend; else the last row's
  std::atomic<bool> cancelled{false};

  // Engine thread only.
  size_t read = 0; // of tokens
  bool ended = false; // nothing more to do; failure says why, if not well
  std::exception_ptr failure;
  bool decoding = false; // the prompt has been read
  TokenId next = 0; // the token to read next when decoding
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<StopStrings> stop_strings;
  std::unique_ptr<Detokenizer> detokenizer;
  std::unique_ptr<GrammarMatcher> grammar;
  GenerationResult result;
  ScoreResult score;
  std::vector<float> logits;

  // Both.
  std::mutex mutex;
  std::condition_variable changed;
  std::string text; // generated and not yet taken
  bool done = false;
  std::exception_ptr error;

  // The first call counts.
  void end(std::exception_ptr why = nullptr) {
    if (!ended) {
      ended = true;
      failure = std::move(why);
    }
  }

  // The engine thread lets go of this request; the session's goes on.
  void deliver() {
    std::lock_guard lock(mutex);
    error = failure;
    done = true;
    changed.notify_all();
  }
};

} // namespace mlx_flash
