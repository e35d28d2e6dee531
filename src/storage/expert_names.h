// The names of tensors that hold experts.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mlx_flash {

enum class ExpertPart : uint8_t { weight, scales, biases };
inline constexpr int kExpertParts = 3;

struct ExpertName {
  uint16_t layer = 0;
  // Empty when the tensor has all experts of its layer.
  std::optional<uint16_t> expert;
  uint8_t projection = 0; // as Projection
  ExpertPart part = ExpertPart::weight;
};

enum class NameKind : uint8_t {
  dense, // no expert's
  expert,
  unknown, // lies among the experts, but is nothing that is known here
};

// What `name` says; `parsed` is filled in for an expert's.
NameKind parse_expert_name(std::string_view name, ExpertName& parsed);

} // namespace mlx_flash
