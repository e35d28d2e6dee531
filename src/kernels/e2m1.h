// The numbers of MXFP4, as the OCP Microscaling Formats (MX) Specification
// v1.0 has them: elements are E2M1 (a sign, two bits of exponent with bias 1,
// one of mantissa), a block's scale is E8M0 (an exponent with bias 127).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace mlx_flash::kernels {

// Twice the number of each code: all are multiples of a half.
inline constexpr int8_t kTwiceE2m1[16] =
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The same as other numbers, with `offset` added.
template <class Number>
constexpr std::array<Number, 16> e2m1_table(int offset) {
  std::array<Number, 16> table{};
  for (size_t code = 0; code < table.size(); ++code) {
    table[code] = static_cast<Number>(kTwiceE2m1[code] + offset);
  }
  return table;
}

// Added to the above it is never negative, and at most twice this.
inline constexpr int kE2m1Offset = 12;

// 2^(bits - 127); 255 is NaN. MLX does not agree with itself about 255: on the
// CPU it is infinity. No checkpoint should have it.
inline float float_from_e8m0(uint8_t bits) {
  if (bits == 255) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  // 2^-127 is below the smallest normal number.
  return bits == 0 ? 0x1.0p-127f
                   : std::bit_cast<float>(static_cast<uint32_t>(bits) << 23);
}

} // namespace mlx_flash::kernels
