#include "engine/grammars.h"

#include <optional>
#include <string>

#include "base/error.h"
#include "engine/planner.h"
#include "engine/tight_schema.h"

namespace mlx_flash {

namespace {

struct GrammarSource {
  GrammarKind kind;
  std::string text;
};

std::optional<GrammarSource> grammar_source(const Constraint& constraint) {
  switch (constraint.kind) {
    case Constraint::Kind::json_schema:
      return GrammarSource{
          GrammarKind::json_schema, tight_schema(constraint.source)};
    case Constraint::Kind::regex:
      return GrammarSource{GrammarKind::regex, constraint.source};
    case Constraint::Kind::lark:
      return GrammarSource{GrammarKind::lark, constraint.source};
    case Constraint::Kind::none:
      break;
  }
  return std::nullopt;
}

GrammarLimits limits(uint64_t compile_cost, size_t matchers) {
  GrammarLimits limits;
  limits.compile_cost = compile_cost;
  limits.lexer_states = kMatcherStates;
  limits.matcher_bytes = kOwnMatcherBytes;
  limits.shared_bytes = matchers * (kMatcherBytes - kOwnMatcherBytes);
  return limits;
}

} // namespace

Grammars::Grammars(
    const Tokenizer* tokenizer,
    size_t vocab,
    std::vector<TokenId> end_tokens,
    size_t matchers,
    uint64_t compile_cost)
    : tokenizer_(tokenizer),
      vocab_(vocab),
      end_tokens_(std::move(end_tokens)),
      matchers_(matchers),
      compile_cost_(compile_cost) {}

void Grammars::check(const Constraint& constraint) {
  if (const auto source = grammar_source(constraint)) {
    grammar().check(source->kind, source->text);
  }
}

std::unique_ptr<GrammarMatcher> Grammars::matcher(
    const Constraint& constraint) {
  const auto source = grammar_source(constraint);
  return source
      ? std::make_unique<GrammarMatcher>(grammar(), source->kind, source->text)
      : nullptr;
}

const Grammar& Grammars::grammar() {
  if (!tokenizer_) {
    fail(
        ErrorCode::unsupported,
        "[grammar] constraints need text, and this model has no "
        "tokenizer.json");
  }
  if (matchers_ == 0) {
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
        *tokenizer_, vocab_, end_tokens_[0], limits(compile_cost_, matchers_));
  }
  return *grammar_;
}

} // namespace mlx_flash
