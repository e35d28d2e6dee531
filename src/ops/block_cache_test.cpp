#include "ops/block_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>

#include "base/rng.h"
#include "ops/host_array.h"

using namespace mlx_flash;
using ops::BlockCache;

namespace mx = mlx::core;

TEST_CASE("block cache: a block that was given back is taken again") {
  BlockCache cache;
  auto first = cache.take(1 << 20);
  void* const memory = first.raw_ptr();
  cache.give_back(first, 1 << 20);
  auto second = cache.take(1 << 20);
  CHECK(second.raw_ptr() == memory);
  CHECK(cache.held_bytes() == 1 << 20);
  cache.give_back(second, 1 << 20);
}

TEST_CASE("block cache: what is spare makes room for another size") {
  BlockCache cache;
  cache.give_back(cache.take(300'000), 300'000);
  const auto other = cache.take(200'000);
  CHECK(cache.held_bytes() == 200'000); // 300'000 were the most in use
  cache.give_back(other, 200'000);
}

TEST_CASE("block cache: never holds more than was in use at one time") {
  constexpr uint64_t kSeed = 41;
  INFO("seed ", kSeed);
  Rng rng(kSeed);
  BlockCache cache;
  std::deque<std::pair<mx::allocator::Buffer, size_t>> used;
  size_t used_bytes = 0;
  size_t most = 0;
  for (int i = 0; i < 5000; ++i) {
    if (rng.below(2) == 0 || used.empty()) {
      const size_t bytes = (1 + rng.below(8)) * 10'000;
      used.emplace_back(cache.take(bytes), bytes);
      static_cast<char*>(used.back().first.raw_ptr())[bytes - 1] = 1;
      used_bytes += bytes;
    } else {
      std::swap(used[rng.below(used.size())], used.back());
      cache.give_back(used.back().first, used.back().second);
      used_bytes -= used.back().second;
      used.pop_back();
    }
    most = std::max(most, used_bytes);
    REQUIRE(cache.held_bytes() >= used_bytes);
    REQUIRE(cache.held_bytes() <= most);
  }
  for (const auto& [block, bytes] : used) {
    cache.give_back(block, bytes);
  }
}

TEST_CASE("block cache: a large array gives its block to the next") {
  auto blocks = std::make_shared<BlockCache>();
  const void* memory = nullptr;
  {
    mx::array first = ops::new_array({1, 100'000}, mx::float32, blocks);
    const mx::array again = first; // shares the block
    memory = first.data<float>();
    CHECK(blocks->held_bytes() == 400'000);
  }
  mx::array second = ops::new_array({2, 50'000}, mx::float32, blocks);
  CHECK(second.data<float>() == memory);
  blocks.reset(); // the array outlives whoever made it
  second.data<float>()[99'999] = 1;
}

TEST_CASE("block cache: small arrays take none") {
  const auto blocks = std::make_shared<BlockCache>();
  const mx::array small = ops::new_array({1, 1000}, mx::float32, blocks);
  CHECK(blocks->held_bytes() == 0);
}
