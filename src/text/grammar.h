// Constrained decoding: which tokens may come next so that the text stays
// within a JSON schema, a regular expression or a Lark grammar (llguidance).
//
// Thread rule: a Grammar is immutable; a GrammarMatcher belongs to one
// sequence and one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "text/tokenizer.h"

struct TfGrammar; // text-ffi
struct TfMatcher;

namespace mlx_flash {

enum class GrammarKind { json_schema, regex, lark };

// What matchers may cost, so that a hostile grammar ends soon.
struct GrammarLimits {
  uint64_t compile_cost = 1'000'000; // steps; 50,000 take about a millisecond
  size_t lexer_states = 2000; // about a kilobyte each
  // How much each may hold, and beyond that all of a Grammar's together: there
  // is all that each lexeme of an ambiguous text may be a part of.
  size_t matcher_bytes = 2u << 20;
  size_t shared_bytes = 64u << 20;
};

// The token trie of one tokenizer: about half a second for 150,000 tokens, so
// make one per model and share it.
class Grammar {
 public:
  // `vocab_size` is the model's (logits), at least the tokenizer's. Throws
  // Error(unsupported) when the tokenizer has no byte view.
  Grammar(
      const Tokenizer& tokenizer,
      size_t vocab_size,
      TokenId eos,
      const GrammarLimits& limits = {});
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  // Throws as GrammarMatcher's constructor does, but for what other matchers
  // hold now.
  void check(GrammarKind kind, std::string_view source) const;

  size_t vocab_size() const {
    return vocab_size_;
  }

 private:
  friend class GrammarMatcher;
  size_t vocab_size_;
  std::shared_ptr<TfGrammar> handle_;
};

class GrammarMatcher {
 public:
  // Throws Error(invalid_argument) with the reason for a bad grammar, or one
  // that there never is memory for, and Error(out_of_budget) for one that there
  // is none for now.
  GrammarMatcher(
      const Grammar& grammar,
      GrammarKind kind,
      std::string_view source);
  ~GrammarMatcher();
  GrammarMatcher(GrammarMatcher&&) noexcept = default;

  // Sets bit i of `mask` (32 per word, low first; (vocab_size + 31) / 32
  // words) for every token allowed next and clears the others. Returns how
  // many are allowed. Throws Error(invalid_argument) where the text so far
  // needs more states or memory than there may be, and Error(out_of_budget)
  // where it needs memory that other matchers have.
  size_t allowed(std::span<uint32_t> mask);
  // Takes `token`, which was allowed. True when the text is complete. Throws as
  // allowed() does.
  bool commit(TokenId token);

 private:
  std::unique_ptr<TfMatcher, void (*)(TfMatcher*)> handle_;
  size_t mask_words_;
};

} // namespace mlx_flash
