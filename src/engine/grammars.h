// Matchers of constrained answers, made where they are asked for: reading a
// grammar can take long, and must not hold up the engine's thread.
//
// Thread rule: any thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "mlx_flash/generation.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace mlx_flash {

class Grammars {
 public:
  // `tokenizer` may be null and must outlive it. Without `has_room` there is
  // no memory for them.
  Grammars(
      const Tokenizer* tokenizer,
      size_t vocab,
      std::vector<TokenId> end_tokens,
      bool has_room);

  // Null for no constraint. Throws Error(invalid_argument | unsupported). The
  // first one takes about half a second for 150,000 tokens.
  std::unique_ptr<GrammarMatcher> matcher(const Constraint& constraint);

 private:
  const Grammar& grammar();

  const Tokenizer* const tokenizer_;
  const size_t vocab_;
  const std::vector<TokenId> end_tokens_;
  const bool has_room_;
  std::mutex mutex_;
  std::unique_ptr<Grammar> grammar_; // made when first asked for
};

} // namespace mlx_flash
