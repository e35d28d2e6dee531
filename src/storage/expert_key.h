// Names one expert of one layer.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace mlx_flash {

struct ExpertKey {
  uint16_t layer = 0; // the model's layer number, dense layers included
  uint16_t expert = 0;

  auto operator<=>(const ExpertKey&) const = default;
};

} // namespace mlx_flash

template <>
struct std::hash<mlx_flash::ExpertKey> {
  size_t operator()(mlx_flash::ExpertKey key) const noexcept {
    return (static_cast<size_t>(key.layer) << 16) | key.expert;
  }
};
