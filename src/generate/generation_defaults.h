// What a model's generation_config.json says: its end tokens, and how it is
// meant to be sampled. The file is part of a downloaded model and is not
// trusted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "mlx_flash/generation.h"

namespace mlx_flash {

struct GenerationDefaults {
  std::vector<TokenId> eos_tokens; // each once; none for a model without
  SamplingOptions sampling; // greedy unless the file sets "do_sample"
  uint64_t max_new_tokens = 0; // 0: the file does not say
};

// `generation_config` is the text of generation_config.json, empty when the
// model has none. End tokens that it does not name are taken from `config`,
// the text of config.json, empty likewise.
//
// Without "do_sample" the sampling fields have no effect, as in Hugging Face
// transformers; with it, those that are absent or null change nothing. A
// top_p above 1 means 1, as there. Throws Error(bad_model) that names the
// file and the field for a value of a wrong type or outside its range, and
// for text that is no JSON object or over 1 MiB (generation_config only).
GenerationDefaults parse_generation_defaults(
    std::string_view generation_config,
    std::string_view config);

} // namespace mlx_flash
