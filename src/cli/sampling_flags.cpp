#include "cli/sampling_flags.h"

#include <algorithm>
#include <limits>
#include <random>

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
      "--temp", temperature_, "Temperature; 0: the most probable token");
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
  flags.toggle(
      "--ignore-eos", ignore_eos_, "Go on past the model's end tokens");
  flags.text(
      "--json-schema",
      json_schema_,
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

GenerationOptions SamplingFlags::options(
    const SamplingOptions& model_defaults,
    uint64_t model_limit) const {
  GenerationOptions options;
  SamplingOptions& sampling = options.sampling;
  if (temperature_ != 0.0f) {
    sampling = model_defaults;
  }
  sampling.temperature = temperature_.value_or(sampling.temperature);
  if (top_k_) {
    sampling.top_k = static_cast<int>(*top_k_);
  }
  sampling.top_p = top_p_.value_or(sampling.top_p);
  sampling.min_p = min_p_.value_or(sampling.min_p);
  sampling.repetition_penalty =
      repetition_penalty_.value_or(sampling.repetition_penalty);
  sampling.seed = seed_ ? *seed_ : random_seed();
  validate(sampling);
  options.max_tokens = max_tokens(model_limit);
  options.stop_strings = stop_strings_;
  options.ignore_eos = ignore_eos_;
  if (json_schema_) {
    options.json_schema = read_input(*json_schema_);
  }
  return options;
}

} // namespace mlx_flash::cli
