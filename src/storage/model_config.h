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

// What a packed value means; each group of a row's values has one scale.
enum class QuantizationMode : uint8_t {
  // w = scale * q + bias, q an unsigned integer; scales and biases are floats.
  affine,
  // w = 2^(scale - 127) * v, v a number of 4 bits, E2M1; scales are bytes, and
  // there are no biases. The OCP Microscaling (MX) specification's MXFP4.
  mxfp4,
};

// How a module's weights are packed: `bits` per value, a scale for each
// `group_size` values of a row.
struct Quantization {
  int bits = 0;
  int group_size = 0;
  QuantizationMode mode = QuantizationMode::affine;

  bool has_biases() const {
    return mode == QuantizationMode::affine;
  }
  bool operator==(const Quantization&) const = default;
};

// One entry of "quantization".
struct QuantizationEntry {
  // Empty for a mode that is not in QuantizationMode.
  std::optional<Quantization> quantization;
  std::string mode = "affine"; // as it is written
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
// group sizes 32, 64 or 128 in the affine mode, 4 bits with group size 32 in
// the mode mxfp4. Throws Error(unsupported) for weights that only
// "quantization_config" describes: MLX did not write them.
ModelConfig parse_model_config(
    std::string_view text,
    const std::filesystem::path& path);

} // namespace mlx_flash
