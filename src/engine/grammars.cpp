#include "engine/grammars.h"

#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
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

} // namespace

Grammars::Grammars(
    const Tokenizer* tokenizer,
    size_t vocab,
    std::vector<TokenId> end_tokens,
    std::optional<GrammarLimits> limits)
    : tokenizer_(tokenizer),
      vocab_(vocab),
      end_tokens_(std::move(end_tokens)),
      limits_(std::move(limits)) {}

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
  if (!limits_) {
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
        *tokenizer_, vocab_, end_tokens_[0], *limits_);
  }
  return *grammar_;
}

} // namespace mlx_flash
