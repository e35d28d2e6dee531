// One number at a time; the kernels' vectors convert their own.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/e2m1.h"
#include "kernels/matrix.h"

namespace mlx_flash::kernels {

inline float float_from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline float float_from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t mantissa = bits & 1023;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

// Number `i` of an array of any alignment.
inline float load_float(const std::byte* array, ScaleType type, int64_t i) {
  if (type == ScaleType::e8m0) {
    return float_from_e8m0(std::to_integer<uint8_t>(array[i]));
  }
  if (type == ScaleType::f32) {
    float value;
    std::memcpy(&value, array + i * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, array + i * 2, 2);
  return type == ScaleType::f16 ? float_from_f16(bits) : float_from_bf16(bits);
}

// The type of a dense matrix's numbers.
inline ScaleType number_type(WeightType type) {
  return type == WeightType::f16 ? ScaleType::f16
      : type == WeightType::bf16 ? ScaleType::bf16
                                 : ScaleType::f32;
}

// The code `column` of a row of quantised weights. The row's last byte is the
// last one read.
inline uint32_t load_code(const std::byte* row, int bits, int64_t column) {
  const int64_t bit = column * bits;
  const int shift = static_cast<int>(bit % 8);
  uint32_t value = std::to_integer<uint32_t>(row[bit / 8]) >> shift;
  if (shift + bits > 8) {
    value |= std::to_integer<uint32_t>(row[bit / 8 + 1]) << (8 - shift);
  }
  return value & ((1u << bits) - 1);
}

} // namespace mlx_flash::kernels
