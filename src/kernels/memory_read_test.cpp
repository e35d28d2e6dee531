#include "kernels/memory_read.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/simd_level.h"

using namespace mlx_flash;

TEST_CASE("memory read: every word is read once, whatever threads and size") {
  const uint64_t seed = 1;
  CAPTURE(seed);
  Rng rng(seed);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (const size_t words : {0, 1, 7, 63, 64, 65, 8191, 100'003}) {
      CAPTURE(words);
      std::vector<uint64_t> memory(words);
      uint64_t expected = 0;
      for (uint64_t& word : memory) {
        word = rng.next();
        expected += word;
      }
      CHECK(
          kernels::read_memory(pool, std::as_bytes(std::span(memory))) ==
          expected);
    }
  }
}

TEST_CASE("simd level: has a name") {
  CHECK(std::string(kernels::simd_level()) != "");
  CHECK(std::string(kernels::simd_level()) != "Unknown");
}
