// Goal: a page holds what was appended, at the type's precision, and nothing
// else in it is touched.
#include "kernels/kv_page.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "kernels/float_convert.h"

namespace mlx_flash::kernels {
namespace {

TEST_CASE("half precision: every half is its own nearest") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_f16(static_cast<uint16_t>(bits));
    if (std::isfinite(value)) {
      REQUIRE(finite_f16(value) == bits);
    }
  }
}

TEST_CASE("half precision: rounds to the nearest, and to even between two") {
  for (uint16_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = float_from_f16(bits);
    const float high = float_from_f16(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2; // exact
    const uint16_t even = bits % 2 == 0 ? bits : bits + 1;
    REQUIRE(finite_f16(middle) == even);
    REQUIRE(finite_f16(std::nextafter(middle, low)) == bits);
    REQUIRE(finite_f16(std::nextafter(middle, high)) == bits + 1);
    REQUIRE(finite_f16(-middle) == (even | 0x8000));
  }
}

TEST_CASE("half precision: what is too large is the largest, NaN stays NaN") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {65504.0f, 65519.0f, 65520.0f, 1e30f, kInfinity}) {
    CHECK(float_from_f16(finite_f16(value)) == 65504.0f);
    CHECK(float_from_f16(finite_f16(-value)) == -65504.0f);
  }
  CHECK(std::isnan(float_from_f16(finite_f16(NAN))));
  CHECK(finite_f16(1e-30f) == 0);
}

TEST_CASE("kv page: holds what was appended, and keeps the rest") {
  const uint64_t seed = 61;
  CAPTURE(seed);
  Rng rng(seed);
  for (const KvType type : {KvType::f32, KvType::f16}) {
    for (const int64_t head_dim : {1, 20, 64, 128}) {
      CAPTURE(head_dim);
      const KvLayout layout{3, head_dim, type};
      const int64_t n = layout.kv_heads * head_dim;
      std::vector<std::vector<std::byte>> memory(
          2,
          std::vector<std::byte>(
              static_cast<size_t>(layout.page_bytes()), std::byte{0xFF}));
      std::byte* const pages[] = {memory[0].data(), memory[1].data()};
      std::vector<float> keys(static_cast<size_t>(n));
      std::vector<float> values(keys.size());
      for (const int64_t position : {0, 15, 16, 63, 64, 100}) {
        CAPTURE(position);
        const auto before = memory;
        for (size_t i = 0; i < keys.size(); ++i) {
          keys[i] = static_cast<float>(rng.uniform() - 0.5);
          values[i] = static_cast<float>(rng.uniform() - 0.5);
        }
        append_kv(layout, pages, position, keys.data(), values.data());
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(i);
          const auto kept = [&](float value) {
            return type == KvType::f16 ? float_from_f16(finite_f16(value))
                                       : value;
          };
          const int64_t head = i / head_dim;
          const int64_t place = i % head_dim;
          REQUIRE(
              load_key(layout, pages, head, position, place) == kept(keys[at]));
          REQUIRE(
              load_value(layout, pages, head, position, place) ==
              kept(values[at]));
        }
        int64_t changed = 0;
        for (size_t page = 0; page < memory.size(); ++page) {
          for (size_t i = 0; i < memory[page].size(); ++i) {
            changed += memory[page][i] != before[page][i] ? 1 : 0;
          }
        }
        CHECK(changed <= 2 * n * (type == KvType::f16 ? 2 : 4));
      }
    }
  }
}

TEST_CASE("kv page: bytes of a page") {
  CHECK(KvLayout{4, 128, KvType::f16}.page_bytes() == 4 * 64 * 256 * 2);
  CHECK(KvLayout{4, 128, KvType::f32}.page_bytes() == 4 * 64 * 256 * 4);
  // Values have whole vectors of columns, keys the numbers that there are.
  CHECK(KvLayout{2, 20, KvType::f16}.page_bytes() == 2 * 64 * (20 + 32) * 2);
}

} // namespace
} // namespace mlx_flash::kernels
