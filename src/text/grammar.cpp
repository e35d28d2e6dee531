#include "text/grammar.h"

#include "base/error.h"
#include "text/ffi_result.h"

namespace mlx_flash {

namespace {

const char* kind_name(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::json_schema:
      return "json_schema";
    case GrammarKind::regex:
      return "regex";
    case GrammarKind::lark:
      return "lark";
  }
  return "";
}

} // namespace

Grammar::Grammar(
    const Tokenizer& tokenizer,
    size_t vocab_size,
    TokenId eos,
    const GrammarLimits& limits)
    : vocab_size_(vocab_size) {
  FfiCall call;
  TfGrammar* handle = tf_grammar_new(
      tokenizer.handle(),
      vocab_size,
      eos,
      limits.compile_cost,
      limits.lexer_states,
      limits.matcher_bytes,
      limits.shared_bytes,
      call.error());
  call.check("grammar");
  handle_ = std::shared_ptr<TfGrammar>(handle, &tf_grammar_free);
}

Grammar::~Grammar() = default;

void Grammar::check(GrammarKind kind, std::string_view source) const {
  FfiCall call;
  tf_grammar_check(
      handle_.get(),
      kind_name(kind),
      source.data(),
      source.size(),
      call.error());
  call.check("grammar");
}

GrammarMatcher::GrammarMatcher(
    const Grammar& grammar,
    GrammarKind kind,
    std::string_view source)
    : handle_(nullptr, &tf_matcher_free),
      mask_words_((grammar.vocab_size() + 31) / 32) {
  FfiCall call;
  handle_.reset(tf_matcher_new(
      grammar.handle_.get(),
      kind_name(kind),
      source.data(),
      source.size(),
      call.error()));
  call.check("grammar");
}

GrammarMatcher::~GrammarMatcher() = default;

size_t GrammarMatcher::allowed(std::span<uint32_t> mask) {
  if (mask.size() != mask_words_) {
    fail(
        ErrorCode::invalid_argument,
        "[grammar] a mask of {} words, where the vocabulary takes {}",
        mask.size(),
        mask_words_);
  }
  FfiCall call;
  const size_t count =
      tf_matcher_allowed(handle_.get(), mask.data(), mask.size(), call.error());
  call.check("grammar");
  return count;
}

bool GrammarMatcher::commit(TokenId token) {
  FfiCall call;
  const bool complete = tf_matcher_commit(handle_.get(), token, call.error());
  call.check("grammar");
  return complete;
}

} // namespace mlx_flash
