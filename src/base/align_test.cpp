#include "base/align.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/rng.h"

using namespace mlx_flash;

TEST_CASE("align: rounding at and beside multiples") {
  CHECK(round_down(0, 4096) == 0);
  CHECK(round_down(4095, 4096) == 0);
  CHECK(round_down(4096, 4096) == 4096);
  CHECK(round_up(0, 4096) == 0);
  CHECK(round_up(1, 4096) == 4096);
  CHECK(round_up(4096, 4096) == 4096);
  CHECK(round_up(4097, 4096) == 8192);
  CHECK(round_up(5, 1) == 5);
  CHECK(div_up(0, 3) == 0);
  CHECK(div_up(1, 3) == 1);
  CHECK(div_up(3, 3) == 1);
  CHECK(div_up(4, 3) == 2);
  CHECK(div_up(UINT64_MAX, 2) == (UINT64_MAX / 2) + 1);
}

TEST_CASE("align: rounding is to the nearest multiple on its side") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t alignment = uint64_t{1} << rng.below(20);
    const uint64_t value = rng.below(1ull << 40);
    CAPTURE(alignment);
    CAPTURE(value);
    const uint64_t down = round_down(value, alignment);
    const uint64_t up = round_up(value, alignment);
    REQUIRE(down % alignment == 0);
    REQUIRE(up % alignment == 0);
    REQUIRE(down <= value);
    REQUIRE(value - down < alignment);
    REQUIRE(up >= value);
    REQUIRE(up - value < alignment);
  }
}

TEST_CASE("align: checked arithmetic is empty exactly where it would wrap") {
  CHECK(checked_add(UINT64_MAX - 1, 1) == UINT64_MAX);
  CHECK_FALSE(checked_add(UINT64_MAX, 1));
  CHECK_FALSE(checked_add(1ull << 63, 1ull << 63));
  CHECK(checked_mul(1ull << 32, (1ull << 32) - 1) == 0xFFFFFFFF00000000);
  CHECK_FALSE(checked_mul(1ull << 32, 1ull << 32));
  CHECK(checked_mul(0, UINT64_MAX) == 0);
}

TEST_CASE("align: whole blocks lie inside, and no further one would") {
  const uint64_t seed = 12;
  CAPTURE(seed);
  Rng rng(seed);
  std::vector<std::byte> all(1000);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t alignment = uint64_t{1} << rng.below(9);
    const size_t begin = rng.below(all.size());
    const auto memory =
        std::span(all).subspan(begin, rng.below(all.size() - begin));
    const auto blocks = whole_blocks(memory, alignment);
    if (blocks.empty()) {
      CHECK(memory.size() < 2 * alignment);
      continue;
    }
    const auto at = reinterpret_cast<uintptr_t>(blocks.data());
    const auto before = static_cast<size_t>(blocks.data() - memory.data());
    CHECK(at % alignment == 0);
    CHECK(blocks.size() % alignment == 0);
    CHECK(before < alignment);
    CHECK(before + blocks.size() <= memory.size());
    CHECK(memory.size() - before - blocks.size() < alignment);
  }
}
