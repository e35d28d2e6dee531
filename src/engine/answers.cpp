#include "engine/answers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/align.h"
#include "base/error.h"
#include "engine/tight_schema.h"
#include "generate/log_softmax.h"

namespace mlx_flash {

using Kind = Request::Kind;

void Answers::start(Request& request) {
  if (request.kind == Kind::generate) {
    start_generation(request);
  } else if (request.kind == Kind::score) {
    check_results(request);
  }
}

// Throws Error(invalid_argument) for candidates that have no memory.
void Answers::check_results(const Request& request) const {
  const auto bytes = checked_mul(
      request.tokens.size() * sizeof(ScoreResult::Candidate),
      static_cast<uint64_t>(std::max(request.top, 0)));
  if (!bytes || *bytes > setup_.result_bytes) {
    fail(
        ErrorCode::invalid_argument,
        "[score] the best {} at {} positions take more than the {} bytes that "
        "were set aside for results",
        request.top,
        request.tokens.size(),
        setup_.result_bytes);
  }
}

void Answers::start_generation(Request& request) {
  const GenerationOptions& options = request.options;
  for (const TokenId id : options.stop_tokens) {
    if (id >= static_cast<TokenId>(setup_.vocab)) {
      fail(
          ErrorCode::invalid_argument,
          "[generate] stop token {} is outside the vocabulary of {}",
          id,
          setup_.vocab);
    }
  }
  request.sampler = std::make_unique<Sampler>(options.sampling);
  for (const TokenId id : request.timeline->tokens) {
    request.sampler->accept(id);
  }
  for (const TokenId id : request.tokens) {
    request.sampler->accept(id);
  }
  request.stop_strings = std::make_unique<StopStrings>(options.stop_strings);
  if (setup_.tokenizer) {
    request.detokenizer = std::make_unique<Detokenizer>(*setup_.tokenizer);
  } else if (!options.stop_strings.empty() || !options.json_schema.empty()) {
    fail(
        ErrorCode::unsupported,
        "[generate] stop strings and schemas need text, and this model has no "
        "tokenizer.json");
  }
  request.result.prompt_tokens = request.tokens.size();
  if (!options.json_schema.empty()) {
    constrain(request);
  }
}

void Answers::constrain(Request& request) {
  if (!setup_.grammars) {
    fail(
        ErrorCode::invalid_argument,
        "[grammar] this engine was opened without room for schemas");
  }
  const auto vocab = static_cast<size_t>(setup_.vocab);
  if (!grammar_) {
    if (setup_.end_tokens.empty()) {
      fail(
          ErrorCode::unsupported,
          "[grammar] this model names no end token, so constrained text "
          "could not end");
    }
    grammar_ = std::make_unique<Grammar>(
        *setup_.tokenizer, vocab, setup_.end_tokens[0]);
  }
  request.grammar = std::make_unique<GrammarMatcher>(
      *grammar_,
      GrammarKind::json_schema,
      tight_schema(request.options.json_schema));
  mask_.resize((vocab + 31) / 32);
}

void Answers::take_row(
    Request& request,
    size_t position,
    std::span<float> logits) {
  switch (request.kind) {
    case Kind::generate:
      next_token(request, logits);
      return;
    case Kind::score:
      score_row(request, position, logits);
      return;
    default:
      request.logits.insert(request.logits.end(), logits.begin(), logits.end());
  }
}

void Answers::next_token(Request& request, std::span<float> logits) {
  std::span<const uint32_t> allowed;
  if (request.grammar) {
    request.grammar->allowed(mask_);
    allowed = mask_;
  }
  const auto token = request.sampler->sample(logits, allowed);
  if (!token) {
    fail(
        ErrorCode::bad_model,
        "[generate] no token can follow: the model's logits are not numbers "
        "(damaged weights?), or the grammar allows none of them");
  }
  const GenerationOptions& options = request.options;
  const auto& ends = setup_.end_tokens;
  const auto& stops = options.stop_tokens;
  const bool ended =
      (!options.ignore_eos &&
       std::find(ends.begin(), ends.end(), *token) != ends.end()) ||
      std::find(stops.begin(), stops.end(), *token) != stops.end();
  const bool complete = request.grammar && request.grammar->commit(*token);
  if (ended) {
    end_generation(request, FinishReason::stop);
    return;
  }
  request.sampler->accept(*token);
  request.result.tokens.push_back(*token);
  if (request.detokenizer) {
    emit(request, request.detokenizer->push(*token));
  }
  if (request.stop_strings->finished() || complete) {
    end_generation(request, FinishReason::stop);
  } else if (request.result.tokens.size() >= options.max_tokens) {
    end_generation(request, FinishReason::length);
  }
  request.decoding = true;
  request.next = *token;
}

void Answers::emit(Request& request, const std::string& text) {
  const std::string certain = request.stop_strings->push(text);
  if (certain.empty()) {
    return;
  }
  request.result.text += certain;
  std::lock_guard lock(request.mutex);
  request.text += certain;
  request.changed.notify_all();
}

void Answers::end_generation(Request& request, FinishReason reason) {
  try {
    if (request.detokenizer) {
      emit(request, request.detokenizer->flush());
    }
  } catch (...) {
    request.end(current_error());
    return;
  }
  if (request.stop_strings->finished()) {
    reason = FinishReason::stop;
  }
  const std::string rest = request.stop_strings->flush();
  request.result.text += rest;
  request.result.finish_reason = reason;
  {
    std::lock_guard lock(request.mutex);
    request.text += rest;
  }
  request.end();
}

void Answers::score_row(
    Request& request,
    size_t position,
    std::span<float> logits) {
  if (position + 1 >= request.tokens.size()) {
    return; // nothing follows the last token
  }
  const auto distribution = LogSoftmax::of(logits);
  if (!distribution) {
    fail(
        ErrorCode::bad_model,
        "[score] the logits behind token {} are not numbers; are the weights "
        "damaged?",
        position);
  }
  ScoreResult& score = request.score;
  score.logprobs.push_back(distribution->logprob(request.tokens[position + 1]));
  if (request.top > 0) {
    score.top.push_back(distribution->top(static_cast<size_t>(request.top)));
  }
  if (position + 2 == request.tokens.size()) {
    score.ids = request.tokens;
    const double sum =
        std::accumulate(score.logprobs.begin(), score.logprobs.end(), 0.0);
    score.perplexity =
        std::exp(-sum / static_cast<double>(score.logprobs.size()));
  }
}

} // namespace mlx_flash
