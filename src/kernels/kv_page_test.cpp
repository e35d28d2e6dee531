// Goal: a page holds what was appended, at the type's precision, and nothing
// else in it is touched.
#include "kernels/kv_page.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"

namespace mlx_flash::kernels {
namespace {

// A page of a layout, nothing written: NaN, or integers of no meaning.
std::vector<std::byte> new_page(const KvLayout& layout) {
  return std::vector<std::byte>(
      static_cast<size_t>(layout.page_bytes()), std::byte{0xFF});
}

// A key of one head as a page has it.
std::vector<float> kept(KvType type, const std::vector<float>& key) {
  const auto n = static_cast<int64_t>(key.size());
  const KvLayout layout{1, n, type};
  auto memory = new_page(layout);
  std::byte* const page = memory.data();
  append_kv(layout, &page, 5, key.data(), key.data());
  std::vector<float> out;
  for (int64_t i = 0; i < n; ++i) {
    out.push_back(load_key(layout, &page, 0, 5, i));
    const float value = load_value(layout, &page, 0, 5, i);
    CHECK(std::memcmp(&value, &out.back(), sizeof(value)) == 0);
  }
  return out;
}

TEST_CASE("kv page: f32 keeps every bit") {
  const std::vector<float> key = {1, -0.0f, 1e-45f, 3.4e38f, -1.0f / 3};
  const auto same = kept(KvType::f32, key);
  CHECK(std::memcmp(same.data(), key.data(), 4 * key.size()) == 0);
}

TEST_CASE(
    "kv page: i16 rounds to the nearest multiple of the largest / 16383") {
  const uint64_t seed = 62;
  CAPTURE(seed);
  Rng rng(seed);
  for (const double magnitude : {1e-20, 1e-3, 1.0, 7e4, 1e30}) {
    for (const size_t n : {size_t{1}, size_t{31}, size_t{128}}) {
      std::vector<float> key(n);
      for (float& number : key) {
        number = static_cast<float>(magnitude * (2 * rng.uniform() - 1));
      }
      const auto rounded = kept(KvType::i16, key);
      double most = 0;
      for (const float number : key) {
        most = std::max(most, std::abs(double{number}));
      }
      for (size_t i = 0; i < n; ++i) {
        const double error = std::abs(double{rounded[i]} - double{key[i]});
        REQUIRE(error <= most / kKvMost * 0.501);
      }
    }
  }
}

TEST_CASE("kv page: i16 of zeros is zeros, of what is not finite NaN") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(kept(KvType::i16, {0, 0, 0}) == std::vector<float>{0, 0, 0});
  CHECK(kept(KvType::i16, {1e-40f, 0, 0}) == std::vector<float>{0, 0, 0});
  for (const float bad : {NAN, kInfinity, -kInfinity}) {
    for (const float number : kept(KvType::i16, {1, bad, 1e-40f})) {
      CHECK(std::isnan(number));
    }
  }
}

TEST_CASE("kv page: holds what was appended, and keeps the rest") {
  const uint64_t seed = 61;
  CAPTURE(seed);
  Rng rng(seed);
  for (const KvType type : {KvType::f32, KvType::i16}) {
    for (const int64_t head_dim : {1, 20, 37, 64, 128}) {
      CAPTURE(head_dim);
      const KvLayout layout{3, head_dim, type};
      const int64_t n = layout.kv_heads * head_dim;
      std::vector<std::vector<std::byte>> memory(2, new_page(layout));
      std::byte* const pages[] = {memory[0].data(), memory[1].data()};
      std::vector<float> keys(static_cast<size_t>(n));
      std::vector<float> values(keys.size());
      for (const int64_t position : {0, 15, 16, 63, 64, 101, 100}) {
        CAPTURE(position);
        const auto before = memory;
        for (size_t i = 0; i < keys.size(); ++i) {
          keys[i] = static_cast<float>(rng.uniform() - 0.5);
          values[i] = static_cast<float>(rng.uniform() - 0.5);
        }
        append_kv(layout, pages, position, keys.data(), values.data());
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(i);
          const int64_t head = i / head_dim;
          const int64_t place = i % head_dim;
          const float most = type == KvType::i16 ? 0.5f / kKvMost : 0;
          REQUIRE(
              std::abs(
                  load_key(layout, pages, head, position, place) - keys[at]) <=
              most);
          REQUIRE(
              std::abs(
                  load_value(layout, pages, head, position, place) -
                  values[at]) <= most);
        }
        int64_t changed = 0;
        for (size_t page = 0; page < memory.size(); ++page) {
          for (size_t i = 0; i < memory[page].size(); ++i) {
            changed += memory[page][i] != before[page][i] ? 1 : 0;
          }
        }
        const int64_t scales = type == KvType::i16 ? 8 * layout.kv_heads : 0;
        CHECK(changed <= 2 * n * (type == KvType::i16 ? 2 : 4) + scales);
      }
    }
  }
}

TEST_CASE("kv page: bytes of a page") {
  CHECK(KvLayout{4, 128, KvType::f32}.page_bytes() == 4 * 64 * 256 * 4);
  // With a scale for each position's key and value.
  CHECK(KvLayout{4, 128, KvType::i16}.page_bytes() == 4 * 64 * (256 * 2 + 8));
  // Values have whole vectors of columns, keys whole words.
  CHECK(
      KvLayout{2, 19, KvType::i16}.page_bytes() ==
      2 * 64 * ((20 + 32) * 2 + 8));
}

} // namespace
} // namespace mlx_flash::kernels
