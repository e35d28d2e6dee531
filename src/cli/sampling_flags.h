// The flags that decide which tokens are chosen and when to stop.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "mlx_flash/generation.h"

namespace mlx_flash::cli {

class SamplingFlags {
 public:
  void declare(Flags& flags);

  // What is generated at most without --max-tokens, unless the model's own
  // limit (0: none) is lower.
  static constexpr uint64_t kDefaultMaxTokens = 256;
  uint64_t max_tokens(uint64_t model_limit = 0) const;

  // The model's defaults, changed by flags. An explicit --temp 0 is plain
  // greedy: then no default of the model applies, only flags. Without --seed
  // the seed is a random one. Throws Error(invalid_argument) for values out
  // of range and for a schema file that cannot be read.
  GenerationOptions options(
      const SamplingOptions& model_defaults,
      uint64_t model_limit) const;

 private:
  std::optional<uint64_t> max_tokens_;
  std::optional<float> temperature_;
  std::optional<uint64_t> top_k_;
  std::optional<float> top_p_;
  std::optional<float> min_p_;
  std::optional<float> repetition_penalty_;
  std::optional<uint64_t> seed_;
  std::vector<std::string> stop_strings_;
  std::optional<std::string> json_schema_;
  bool ignore_eos_ = false;
};

} // namespace mlx_flash::cli
