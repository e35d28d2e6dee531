#include "engine/memory_speed.h"

#include <doctest/doctest.h>

using namespace mlx_flash;

TEST_CASE("memory speed: the buffer is no cache's, and modest") {
  constexpr uint64_t kMiB = 1 << 20;
  constexpr uint64_t kPlenty = 1ull << 40;
  CHECK(memory_probe_bytes(0, kPlenty) == 256 * kMiB);
  CHECK(memory_probe_bytes(32 * kMiB, kPlenty) == 256 * kMiB);
  CHECK(memory_probe_bytes(260 * kMiB, kPlenty) == 520 * kMiB);
  CHECK(memory_probe_bytes(1152 * kMiB, kPlenty) == 1024 * kMiB);
  CHECK(memory_probe_bytes(UINT64_MAX, kPlenty) == 1024 * kMiB);
  // A quarter of what is free, in whole pages.
  CHECK(memory_probe_bytes(260 * kMiB, 400 * kMiB) == 100 * kMiB);
  CHECK(memory_probe_bytes(0, 40'000) == 8192);
  CHECK(memory_probe_bytes(0, 0) == 4096);
}

TEST_CASE("memory speed: is measured, also without any time") {
  CHECK(measure_memory_speed(1, 1 << 20, 0) > 0);
  CHECK(measure_memory_speed(2, 1 << 20, 0.01) > 0);
  CHECK(measure_memory_speed(2, 4096, 0) > 0);
}
