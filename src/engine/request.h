// One call of a session on its way through the engine thread.
//
// Thread rule: the session fills it in and hands it over; from then on it is
// the engine thread's, but for what is atomic, until its listener hears of its
// end.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "generate/sampler.h"
#include "generate/stop_strings.h"
#include "mlx_flash/embedding.h"
#include "mlx_flash/generation.h"
#include "models/pooled_states.h"
#include "text/detokenizer.h"
#include "text/grammar.h"

namespace mlx_flash {

std::exception_ptr make_error(ErrorCode code, const std::string& message);
// What is being thrown, as an Error: MLX throws others.
std::exception_ptr current_error();

// What the engine keeps of one session. Its keys and values may be fewer than
// its tokens: then its room was needed, and it is read again when it goes on.
struct Timeline {
  int sequence = -1; // in the KV cache, from the first call on
  std::vector<TokenId> tokens; // that have been read; engine thread only
  std::atomic<uint64_t> length{0}; // of tokens, for everybody
  bool active = false; // a request of it takes part in steps
  // A text is read for its embedding: nobody will begin alike, or go on.
  bool embeds = false;
  uint64_t last_use = 0; // when one last did, in requests
};

struct Request;

// Hears of a request. Called on the engine thread, which it may not hold up.
class RequestListener {
 public:
  virtual ~RequestListener() = default;

  // Of a generation.
  virtual void on_progress(const GenerationProgress& progress) {
    (void)progress;
  }
  virtual void on_text(
      std::string_view text,
      std::span<const ChosenToken> tokens) {
    (void)text;
    (void)tokens;
  }
  // The engine is done with it; `failure` says why, if not well.
  virtual void on_end(Request& request) = 0;
};

struct Request {
  enum class Kind { close, rewind, generate, score, embed, extend };

  Kind kind = Kind::generate;
  std::shared_ptr<Timeline> timeline;
  std::shared_ptr<RequestListener> listener; // null: nobody wants to know
  std::vector<TokenId> tokens; // to read: a prompt, a text
  uint64_t rewind_length = 0;
  GenerationOptions options;
  int top = 0; // of a score
  bool all_logits = true; // of an extend; else the last row's
  std::atomic<bool> cancelled{false};

  uint64_t serial = 0; // the order in which requests came; from 1
  size_t again = 0; // of tokens, the first that the session holds already
  bool was_admitted = false; // and may have had to give way since
  uint64_t position = 0; // in the queue, as last told
  size_t read = 0; // of tokens
  size_t stored = 0; // of those after that, from where they can be restored
  bool ended = false; // nothing more to do
  std::exception_ptr failure;
  bool decoding = false; // the prompt has been read
  TokenId next = 0; // the token to read next when decoding
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<StopStrings> stop_strings;
  std::unique_ptr<Detokenizer> detokenizer;
  // Of options.constraint, once the request was admitted.
  std::unique_ptr<GrammarMatcher> grammar;
  GenerationResult result;
  ScoreResult score;
  std::vector<float> logits;
  std::optional<PooledStates> states; // of an embed
  std::vector<float> embedding;

  // The first call counts.
  void end(std::exception_ptr why = nullptr) {
    if (!ended) {
      ended = true;
      failure = std::move(why);
    }
  }

  bool is_constrained() const {
    return options.constraint.kind != Constraint::Kind::none;
  }

  // What is behind each of its tokens counts, not behind the last one alone.
  bool wants_every_row() const {
    return kind == Kind::score || (kind == Kind::extend && all_logits) ||
        (states && states->wants_all());
  }

  // Computes its prompt, rather than having it restored.
  bool reads_prompt() const {
    return !ended && !decoding && stored == 0;
  }

  // It can give up its room in the KV cache for later.
  bool may_wait_again() const {
    return kind == Kind::generate && !ended;
  }

  void tell_position(uint64_t now);
  // Its turn has come; the first `known` tokens need not be read.
  void tell_admitted(uint64_t known);
  void tell_read();

  // The engine lets go of this request.
  void deliver();
};

} // namespace mlx_flash
