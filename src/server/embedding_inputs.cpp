#include "server/embedding_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlx_flash::server {

namespace {

using Tokens = std::vector<TokenId>;

std::string name_of(const EmbeddingJob& job, size_t input) {
  return job.inputs.size() > 1 ? fmt::format("{}[{}]", job.field, input)
                               : job.field;
}

// The first `room` tokens of a text and what the tokenizer puts around it: a
// model that pools the last token was trained on the one that ends texts.
Tokens cut_text(const Tokens& whole, const Tokens& plain, uint64_t room) {
  const auto begin =
      std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  const uint64_t around = whole.size() - plain.size();
  if (begin == whole.end() || around >= room) {
    return {whole.begin(), whole.begin() + static_cast<ptrdiff_t>(room)};
  }
  const auto behind = begin + static_cast<ptrdiff_t>(plain.size());
  Tokens cut(whole.begin(), begin + static_cast<ptrdiff_t>(room - around));
  cut.insert(cut.end(), behind, whole.end());
  return cut;
}

Tokens cut_to(
    uint64_t room,
    const std::variant<std::string, Tokens>& input,
    Tokens tokens,
    const Text& text) {
  if (const auto* source = std::get_if<std::string>(&input)) {
    return cut_text(tokens, text.encode(*source, false), room);
  }
  tokens.resize(room);
  return tokens;
}

void check_ids(
    const Tokens& ids,
    const std::string& name,
    uint64_t vocab_size) {
  const auto wrong = std::find_if(
      ids.begin(), ids.end(), [&](TokenId id) { return id >= vocab_size; });
  if (wrong != ids.end()) {
    const std::string field = fmt::format("{}[{}]", name, wrong - ids.begin());
    throw invalid_field(
        field,
        fmt::format(
            "{} is {}, but this model's token ids are below {}",
            field,
            *wrong,
            vocab_size));
  }
}

Tokens tokens_of(
    const std::variant<std::string, Tokens>& input,
    const std::string& name,
    const Text& text,
    uint64_t vocab_size) {
  Tokens tokens;
  if (const auto* source = std::get_if<std::string>(&input)) {
    if (!source->empty()) {
      tokens = text.encode(*source, true);
    }
  } else {
    tokens = std::get<Tokens>(input);
    check_ids(tokens, name, vocab_size);
  }
  if (tokens.empty()) {
    throw invalid_field(name, name + " must not be empty");
  }
  return tokens;
}

} // namespace

uint64_t most_embeddings(const ServerLimits& limits) {
  constexpr uint64_t kRequestsOfMost = 4;
  return kRequestsOfMost * limits.embedding_inputs;
}

uint64_t embeddings_bytes(
    const ServerLimits& limits,
    const EmbeddingForm& form) {
  constexpr uint64_t kBytesOfNumber = 16; // as text
  return most_embeddings(limits) * form.dimensions * kBytesOfNumber;
}

void check_embeddings(const EmbeddingJob& job, const ServedModel& model) {
  const EmbeddingForm& form = model.embedding;
  if (form.pooling == Pooling::none) {
    throw invalid_field(
        "model",
        fmt::format(
            "the model '{}' has no embeddings{}{}",
            model.name,
            form.why_none.empty() ? "" : ": ",
            form.why_none))
        .with_code("unsupported");
  }
  if (job.dimensions && *job.dimensions != form.dimensions) {
    throw invalid_field(
        "dimensions",
        fmt::format(
            "dimensions cannot be {}: this model's embeddings have {}, and "
            "are not shortened",
            *job.dimensions,
            form.dimensions));
  }
}

std::vector<Tokens> make_embedding_inputs(
    const EmbeddingJob& job,
    const Text& text,
    uint64_t vocab_size,
    const Plan& plan,
    const std::function<void()>& between) {
  const uint64_t room = plan.model_context > 0
      ? std::min(plan.context_tokens, plan.model_context)
      : plan.context_tokens;
  std::vector<Tokens> inputs;
  for (const auto& input : job.inputs) {
    between();
    const std::string name = name_of(job, inputs.size());
    Tokens tokens = tokens_of(input, name, text, vocab_size);
    if (tokens.size() > room && !job.truncate) {
      throw invalid_field(
          name,
          fmt::format(
              "{} has {} tokens, but the context has room for {}; shorten it{}",
              name,
              tokens.size(),
              room,
              room == plan.model_context
                  ? ""
                  : " or start the server with a larger --ctx"))
          .with_code("context_length_exceeded");
    }
    if (tokens.size() > room) {
      tokens = cut_to(room, input, std::move(tokens), text);
    }
    inputs.push_back(std::move(tokens));
  }
  return inputs;
}

} // namespace mlx_flash::server
