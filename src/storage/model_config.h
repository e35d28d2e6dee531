// What storage takes from config.json: the model's type, and how its modules
// are quantised. What a family means by its other fields is read by that
// family (models/).
//
// Thread rule: values without state.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace mlx_flash {

// MLX affine quantisation: w = scale * q + bias, `bits` per value, one scale
// and bias for each `group_size` values of a row.
struct Quantization {
  int bits = 0;
  int group_size = 0;

  bool operator==(const Quantization&) const = default;
};

// One entry of "quantization", as it is written.
struct QuantizationEntry {
  Quantization quantization;
  std::string mode = "affine";
};

struct ModelConfig {
  std::string model_type;
  // Empty when config.json has no "quantization".
  std::optional<QuantizationEntry> quantization;
  // By module path; empty where the entry is `false`.
  std::map<std::string, std::optional<QuantizationEntry>, std::less<>>
      overrides;
};

inline constexpr uint64_t kMaxConfigBytes = 16ull << 20;

// `text` is that of config.json. Throws Error(bad_model) when it is not one
// JSON object (nested at most 64 deep, with at most 300,000 values, so that
// any JSON library takes it in little memory), when it has no model_type, or
// when "quantization" is not what MLX writes: bits 2, 3, 4, 5, 6 or 8 with
// group sizes 32, 64 or 128 in the affine mode. Throws Error(unsupported) for
// weights that only "quantization_config" describes: MLX did not write them.
ModelConfig parse_model_config(
    std::string_view text,
    const std::filesystem::path& path);

} // namespace mlx_flash
