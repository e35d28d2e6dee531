// One token timeline of one user.
//
// Thread rule: one thread at a time, except cancel(), which any may call.
// Once its engine is closed, its calls throw Error(internal).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mlx_flash/embedding.h"
#include "mlx_flash/generation.h"

namespace mlx_flash {

class Session {
 public:
  virtual ~Session() = default;

  // Tokens this session holds.
  virtual uint64_t length() const = 0;

  // Appends `prompt` and generates. On return the session holds the prompt
  // and what was generated (but not the last token, which nobody has read
  // yet). An Error leaves the session as it was before the failing step.
  virtual GenerationResult generate(
      std::span<const TokenId> prompt,
      const GenerationOptions& options,
      const OnText& on_text = {}) = 0;

  // The same without waiting: returns at once, and `listener` hears the rest.
  // The session is busy until its on_end(); destroying the session before ends
  // the answer as an Error(cancelled).
  virtual void start(
      std::vector<TokenId> prompt,
      const GenerationOptions& options,
      std::shared_ptr<GenerationListener> listener) = 0;

  // Appends `ids`, at least two, to an empty session and returns their
  // log-probabilities, with the `top` best candidates at each position.
  virtual ScoreResult score(std::span<const TokenId> ids, int top = 0) = 0;

  // Reads `tokens`, at least one, into an empty session, which is empty again
  // afterwards, and makes their embedding (embedding.h). Returns at once;
  // `on_end` is called once, on the engine's thread, which waits for it. The
  // session is busy until then; destroying it before ends the call as an
  // Error(cancelled).
  virtual void start_embedding(
      std::vector<TokenId> tokens,
      OnEmbedding on_end) = 0;

  // Appends `tokens` and returns logits: those behind each of them, [tokens,
  // vocab_size], or behind the last alone, [vocab_size]. For tests and tools.
  enum class Logits { all, last };
  virtual std::vector<float> extend(
      std::span<const TokenId> tokens,
      Logits which = Logits::all) = 0;

  // Forgets all but the first `length` tokens.
  virtual void rewind(uint64_t length) = 0;

  // Ends a running call within one step; without one, the next call ends at
  // once.
  virtual void cancel() = 0;
};

} // namespace mlx_flash
