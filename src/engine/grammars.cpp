#include "engine/grammars.h"

#include "base/error.h"
#include "engine/planner.h"
#include "engine/tight_schema.h"

namespace mlx_flash {

Grammars::Grammars(
    const Tokenizer* tokenizer,
    size_t vocab,
    std::vector<TokenId> end_tokens,
    bool has_room,
    uint64_t compile_cost)
    : tokenizer_(tokenizer),
      vocab_(vocab),
      end_tokens_(std::move(end_tokens)),
      has_room_(has_room),
      compile_cost_(compile_cost) {}

void Grammars::check(const Constraint& constraint) {
  matcher(constraint);
}

std::unique_ptr<GrammarMatcher> Grammars::matcher(
    const Constraint& constraint) {
  const auto make = [&](GrammarKind kind, const std::string& source) {
    return std::make_unique<GrammarMatcher>(grammar(), kind, source);
  };
  switch (constraint.kind) {
    case Constraint::Kind::json_schema:
      return make(GrammarKind::json_schema, tight_schema(constraint.source));
    case Constraint::Kind::regex:
      return make(GrammarKind::regex, constraint.source);
    case Constraint::Kind::lark:
      return make(GrammarKind::lark, constraint.source);
    case Constraint::Kind::none:
      break;
  }
  return nullptr;
}

const Grammar& Grammars::grammar() {
  if (!tokenizer_) {
    fail(
        ErrorCode::unsupported,
        "[grammar] constraints need text, and this model has no "
        "tokenizer.json");
  }
  if (!has_room_) {
    fail(
        ErrorCode::invalid_argument,
        "[grammar] this engine was opened without room for schemas and "
        "grammars");
  }
  if (end_tokens_.empty()) {
    fail(
        ErrorCode::unsupported,
        "[grammar] this model names no end token, so constrained text could "
        "not end");
  }
  std::lock_guard lock(mutex_);
  if (!grammar_) {
    grammar_ = std::make_unique<Grammar>(
        *tokenizer_,
        vocab_,
        end_tokens_[0],
        GrammarLimits{compile_cost_, kMatcherStates});
  }
  return *grammar_;
}

} // namespace mlx_flash
