// How activations enter products with quantised weights.
#pragma once

#include <cstdint>

namespace mlx_flash::kernels {

enum class Precision : uint8_t {
  // As they are: the reference.
  f32,
  // Rounded to 8 bits, with a scale for each group of weights. Products are
  // then sums of integers, exact within a group. Dense weights (f32, f16,
  // bf16) and everything that is not a product stay in f32.
  int8,
};

} // namespace mlx_flash::kernels
