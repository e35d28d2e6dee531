// Matchers of constrained answers. Their memory is planned for so many at once
// (planner.h) and limited to that: each has its own, which usual schemas do
// with, and the rest is for those that need more.
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
  // `tokenizer` may be null and must outlive it. `matchers` is for how many
  // there is memory; perhaps for none.
  Grammars(
      const Tokenizer* tokenizer,
      size_t vocab,
      std::vector<TokenId> end_tokens,
      size_t matchers,
      uint64_t compile_cost);

  // Throws Error(invalid_argument | unsupported), with what is wrong with the
  // constraint, as matcher() would. The first time takes about half a second
  // for 150,000 tokens, which is not for the engine's thread.
  void check(const Constraint& constraint);

  // Null for no constraint.
  std::unique_ptr<GrammarMatcher> matcher(const Constraint& constraint);

 private:
  const Grammar& grammar();

  const Tokenizer* const tokenizer_;
  const size_t vocab_;
  const std::vector<TokenId> end_tokens_;
  const size_t matchers_;
  const uint64_t compile_cost_;
  std::mutex mutex_;
  std::unique_ptr<Grammar> grammar_; // made when first asked for
};

} // namespace mlx_flash
