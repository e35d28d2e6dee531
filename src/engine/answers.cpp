#include "engine/answers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/align.h"
#include "base/error.h"
#include "generate/log_softmax.h"

namespace mlx_flash {

using Kind = Request::Kind;

void Answers::start(Request& request) {
  if (request.kind == Kind::generate) {
    start_generation(request);
  } else if (request.kind == Kind::score) {
    check_results(request);
  } else if (request.kind == Kind::embed) {
    start_embedding(request);
  }
}

void Answers::start_embedding(Request& request) const {
  const EmbeddingForm& form = setup_.embedding;
  if (form.pooling == Pooling::none) {
    fail(
        ErrorCode::unsupported,
        "[embedding] this model has no embeddings: {}",
        form.why_none);
  }
  request.states.emplace(form);
  if (form.pooling == Pooling::first) {
    request.tokens.resize(1); // which knows nothing of those that follow
  }
}

// Throws Error(invalid_argument) for candidates that have no memory.
void Answers::check_results(const Request& request) const {
  const auto bytes = checked_mul(
      request.tokens.size() * sizeof(TokenLogprob),
      static_cast<uint64_t>(std::max(request.top, 0)));
  if (!bytes || *bytes > setup_.result_bytes) {
    fail(
        ErrorCode::invalid_argument,
        "[score] the best {} at {} positions take more than the {} bytes that "
        "were set aside for results; ask for fewer",
        request.top,
        request.tokens.size(),
        setup_.result_bytes);
  }
}

void Answers::require_in_vocabulary(TokenId id, const char* what) const {
  if (id >= static_cast<TokenId>(setup_.vocab)) {
    fail(
        ErrorCode::invalid_argument,
        "[generate] {} {} is outside the vocabulary of {}",
        what,
        id,
        setup_.vocab);
  }
}

void Answers::start_generation(Request& request) {
  const GenerationOptions& options = request.options;
  for (const TokenId id : options.stop_tokens) {
    require_in_vocabulary(id, "stop token");
  }
  for (const LogitBias& each : options.sampling.logit_bias) {
    require_in_vocabulary(each.id, "biased token");
  }
  request.sampler = std::make_unique<Sampler>(options.sampling, scratch_);
  for (const TokenId id : request.timeline->tokens) {
    request.sampler->accept_prompt(id);
  }
  for (const TokenId id : request.tokens) {
    request.sampler->accept_prompt(id);
  }
  request.stop_strings = std::make_unique<StopStrings>(options.stop_strings);
  if (setup_.tokenizer) {
    request.detokenizer = std::make_unique<Detokenizer>(*setup_.tokenizer);
  } else if (!options.stop_strings.empty()) {
    fail(
        ErrorCode::unsupported,
        "[generate] stop strings need text, and this model has no "
        "tokenizer.json");
  }
  request.result.prompt_tokens = request.tokens.size();
  if (request.is_constrained()) {
    mask_.resize((static_cast<size_t>(setup_.vocab) + 31) / 32);
  }
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

void Answers::take_state(
    Request& request,
    size_t position,
    std::span<const float> state) const {
  request.states->add(state);
  if (position + 1 == request.tokens.size()) {
    request.embedding = request.states->result();
  }
}

void Answers::next_token(Request& request, std::span<float> logits) {
  if (request.options.logprobs) {
    original_.assign(logits.begin(), logits.end()); // sampling changes them
  }
  std::span<const uint32_t> allowed;
  if (request.grammar) {
    request.grammar->allowed(mask_);
    if (!request.options.ignore_eos) {
      allow_all_ends();
    }
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
  if (ended) {
    request.result.stop_token = *token;
    end_generation(request, FinishReason::stop);
    return;
  }
  const bool complete = request.grammar && request.grammar->commit(*token);
  request.sampler->accept(*token);
  request.result.tokens.push_back(*token);
  const ChosenToken chosen = describe(*token, options);
  // Models have logits for more ids than their tokenizers have tokens.
  const bool has_text = request.detokenizer &&
      *token < static_cast<TokenId>(setup_.tokenizer->vocab_size());
  emit(
      request,
      has_text ? request.detokenizer->push(*token) : std::string(),
      {&chosen, 1});
  if (request.stop_strings->finished() || complete) {
    end_generation(request, FinishReason::stop);
  } else if (request.result.tokens.size() >= options.max_tokens) {
    end_generation(request, FinishReason::length);
  }
  request.decoding = true;
  request.next = *token;
}

// Grammars know of the first one.
void Answers::allow_all_ends() {
  const auto bit = [this](TokenId id) -> std::pair<uint32_t&, uint32_t> {
    return {mask_[id / 32], 1u << (id % 32)};
  };
  const auto [first, is_first] = bit(setup_.end_tokens.front());
  if (first & is_first) {
    for (const TokenId id : setup_.end_tokens) {
      if (id < static_cast<TokenId>(setup_.vocab)) {
        const auto [word, is_it] = bit(id);
        word |= is_it;
      }
    }
  }
}

ChosenToken Answers::describe(TokenId token, const GenerationOptions& options)
    const {
  ChosenToken chosen{token};
  if (!options.logprobs) {
    return chosen;
  }
  if (const auto distribution = LogSoftmax::of(original_)) {
    chosen.logprob = distribution->logprob(token);
    chosen.top = distribution->top(static_cast<size_t>(options.top_logprobs));
  }
  return chosen;
}

void Answers::emit(
    Request& request,
    const std::string& text,
    std::span<const ChosenToken> tokens) {
  tell(request, request.stop_strings->push(text), tokens);
}

// What is certain now.
void Answers::tell(
    Request& request,
    const std::string& text,
    std::span<const ChosenToken> tokens) {
  request.result.text += text;
  if (request.listener && (!text.empty() || !tokens.empty())) {
    request.listener->on_text(text, tokens);
  }
}

void Answers::end_generation(Request& request, FinishReason reason) {
  try {
    if (request.detokenizer) {
      emit(request, request.detokenizer->flush(), {});
    }
    if (request.stop_strings->finished()) {
      reason = FinishReason::stop;
      request.result.stop_string = request.stop_strings->found();
      request.result.stop_token.reset(); // behind the text's end
    }
    request.result.finish_reason = reason;
    tell(request, request.stop_strings->flush(), {});
  } catch (...) {
    request.end(current_error());
    return;
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
