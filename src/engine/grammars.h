// Matchers of constrained answers, within limits that are planned (planner.h).
//
// Thread rule: any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "mlx_flash/generation.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace mlx_flash {

class Grammars {
 public:
  // `tokenizer` may be null and must outlive it. Without `limits` there is no
  // memory for them.
  Grammars(
      const Tokenizer* tokenizer,
      size_t vocab,
      std::vector<TokenId> end_tokens,
      std::optional<GrammarLimits> limits);

  // Throws Error(invalid_argument | unsupported), with what is wrong with the
  // constraint, as matcher() would. The first time takes about half a second
  // for 150,000 tokens, which is not for the engine's thread.
  void check(const Constraint& constraint);

  // Null for no constraint. Throws Error(out_of_budget), too, where others have
  // the memory that it needs.
  std::unique_ptr<GrammarMatcher> matcher(const Constraint& constraint);

 private:
  const Grammar& grammar();

  const Tokenizer* const tokenizer_;
  const size_t vocab_;
  const std::vector<TokenId> end_tokens_;
  const std::optional<GrammarLimits> limits_;
  std::mutex mutex_;
  std::unique_ptr<Grammar> grammar_; // made when first asked for
};

} // namespace mlx_flash
