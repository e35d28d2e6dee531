// What the CPU rounds: activations that enter products with quantised weights,
// and keys and values that are kept.
#pragma once

#include <cstdint>

#include "kernels/kv_page.h"

namespace mlx_flash::kernels {

enum class Precision : uint8_t {
  // Nothing: the reference.
  f32,
  // Activations to 8 bits, with a scale for each group of weights. Products
  // are then sums of integers, exact within a group. Keys and values to 15
  // bits, with a scale for each of a head (kernels/kv_page.h), and queries and
  // softmax's weights to 131,071 units in all: finer than the keys themselves,
  // which come out of such products. Dense weights (f32, f16, bf16), softmax
  // and everything else stay in f32.
  int8,
};

inline KvType kv_type(Precision precision) {
  return precision == Precision::f32 ? KvType::f32 : KvType::i16;
}

} // namespace mlx_flash::kernels
