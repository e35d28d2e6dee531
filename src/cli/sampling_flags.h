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

  // Reads the schema's file, once. Throws Error(invalid_argument) for a file
  // that cannot be read, values out of range and flags without an effect.
  void check();
  bool constrains() const {
    return json_schema_file_.has_value();
  }
  bool reads_stdin() const {
    return json_schema_file_ == "-";
  }

  // The model's defaults, changed by flags; after check(). An explicit
  // --temp 0 is plain greedy: then no default of the model applies, only
  // flags. Without --seed the seed is a random one.
  GenerationOptions options(
      const SamplingOptions& model_defaults,
      uint64_t model_limit) const;

 private:
  const char* filters() const;
  float temperature(float model_default) const;

  std::optional<uint64_t> max_tokens_;
  std::optional<float> temperature_;
  std::optional<uint64_t> top_k_;
  std::optional<float> top_p_;
  std::optional<float> min_p_;
  std::optional<float> repetition_penalty_;
  std::optional<uint64_t> seed_;
  std::vector<std::string> stop_strings_;
  std::vector<uint64_t> stop_ids_;
  std::optional<std::string> json_schema_file_;
  std::string json_schema_;
  bool ignore_eos_ = false;
};

} // namespace mlx_flash::cli
