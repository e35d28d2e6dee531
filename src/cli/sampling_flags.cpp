#include "cli/sampling_flags.h"

#include <algorithm>
#include <limits>
#include <random>

#include "base/error.h"
#include "cli/input.h"

namespace mlx_flash::cli {

namespace {

constexpr uint64_t kMany = std::numeric_limits<int32_t>::max();

uint64_t random_seed() {
  std::random_device device;
  // Below 2^53, so that every JSON reader takes the reported seed exactly.
  return (uint64_t{device()} << 21 | device() >> 11) & ((1ull << 53) - 1);
}

} // namespace

void SamplingFlags::declare(Flags& flags) {
  flags.group("Answer");
  flags.count(
      "--max-tokens",
      max_tokens_,
      1,
      kMany,
      "Tokens at most (default: 256, or the model's)");
  flags.number(
      "--temp,--temperature",
      temperature_,
      "Temperature; 0: the most probable token");
  flags.count("--top-k", top_k_, 0, kMany, "Among so many tokens; 0: all");
  flags.number(
      "--top-p", top_p_, "Among the fewest this probable together; 1: all");
  flags.number("--min-p", min_p_, "Among those this probable against the best");
  flags.number(
      "--repeat-penalty",
      repetition_penalty_,
      "For tokens that occurred; 1: none");
  flags.count(
      "--seed",
      seed_,
      0,
      std::numeric_limits<uint64_t>::max(),
      "Same seed, same answer (default: random)");
  flags.texts(
      "--stop", stop_strings_, "TEXT", "End before this text; repeatable");
  flags.counts(
      "--stop-id",
      stop_ids_,
      0,
      std::numeric_limits<TokenId>::max(),
      "End at this token; repeatable");
  flags.toggle(
      "--ignore-eos", ignore_eos_, "Go on past the model's end tokens");
  flags.text(
      "--json-schema",
      json_schema_file_,
      "FILE",
      "Answer in JSON, as this schema allows");
}

uint64_t SamplingFlags::max_tokens(uint64_t model_limit) const {
  if (max_tokens_) {
    return *max_tokens_;
  }
  return model_limit == 0 ? kDefaultMaxTokens
                          : std::min(kDefaultMaxTokens, model_limit);
}

void SamplingFlags::check() {
  if (json_schema_file_ && json_schema_.empty()) {
    json_schema_ = read_input(*json_schema_file_);
    if (json_schema_.empty()) {
      fail(
          ErrorCode::invalid_argument,
          "[schema] {} is empty; the schema that allows every JSON text is {{}}",
          *json_schema_file_);
    }
  }
  if (temperature_ == 0.0f && filters()) {
    fail(
        ErrorCode::invalid_argument,
        "[sampling] {} has no effect at --temp 0; leave one of them out",
        filters());
  }
  options({}, 0);
}

// The first of the flags that choose among tokens, null without. Some values
// choose all.
const char* SamplingFlags::filters() const {
  if (top_k_.value_or(0) > 0) {
    return "--top-k";
  }
  if (top_p_.value_or(1) < 1) {
    return "--top-p";
  }
  return min_p_.value_or(0) > 0 ? "--min-p" : nullptr;
}

// Who asks for a choice wants one, also of a model that has no defaults.
float SamplingFlags::temperature(float model_default) const {
  return temperature_.value_or(
      model_default == 0 && filters() ? 1 : model_default);
}

GenerationOptions SamplingFlags::options(
    const SamplingOptions& model_defaults,
    uint64_t model_limit) const {
  GenerationOptions options;
  SamplingOptions& sampling = options.sampling;
  if (temperature_ != 0.0f) {
    sampling = model_defaults;
  }
  sampling.temperature = temperature(sampling.temperature);
  if (top_k_) {
    sampling.top_k = static_cast<int>(*top_k_);
  }
  sampling.top_p = top_p_.value_or(sampling.top_p);
  sampling.min_p = min_p_.value_or(sampling.min_p);
  sampling.repetition_penalty =
      repetition_penalty_.value_or(sampling.repetition_penalty);
  sampling.seed = seed_ ? *seed_ : random_seed();
  options.max_tokens = max_tokens(model_limit);
  options.stop_strings = stop_strings_;
  options.ignore_eos = ignore_eos_;
  for (const uint64_t id : stop_ids_) {
    options.stop_tokens.push_back(static_cast<TokenId>(id));
  }
  if (constrains()) {
    options.constraint = {Constraint::Kind::json_schema, json_schema_};
  }
  validate(options);
  return options;
}

} // namespace mlx_flash::cli
