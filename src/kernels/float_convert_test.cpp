// Goal: every half-precision number is what IEEE 754 says its bits are.
#include "kernels/float_convert.h"

#include <doctest/doctest.h>

#include <cmath>

namespace mlx_flash::kernels {
namespace {

TEST_CASE("half precision: every number is what its bits say") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    CAPTURE(bits);
    const float value = float_from_f16(static_cast<uint16_t>(bits));
    const auto exponent = static_cast<int>((bits >> 10) & 31);
    const auto mantissa = static_cast<int>(bits & 1023);
    REQUIRE(std::signbit(value) == (bits >= 0x8000));
    if (exponent == 31) {
      REQUIRE(std::isnan(value) == (mantissa != 0));
      REQUIRE(std::isinf(value) == (mantissa == 0));
      continue;
    }
    const int whole = exponent == 0 ? mantissa : mantissa + 1024;
    REQUIRE(
        std::abs(value) ==
        std::ldexp(whole, (exponent == 0 ? 1 : exponent) - 25));
  }
}

} // namespace
} // namespace mlx_flash::kernels
