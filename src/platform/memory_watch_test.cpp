#include "platform/memory_watch.h"

#include <doctest/doctest.h>

#include <cstring>

#include "base/aligned_buffer.h"

using namespace mlx_flash;

namespace {
constexpr uint64_t kBytes = 64 << 20;
}

TEST_CASE("memory watch: the peak stays after the memory is gone") {
  MemoryWatch watch;
  const uint64_t before = anonymous_memory_bytes();
  {
    const AlignedBuffer buffer(kBytes);
    std::memset(buffer.data(), 1, kBytes);
    watch.sample();
  }
  CHECK(anonymous_memory_bytes() < before + kBytes / 2);
  watch.sample();
  CHECK(watch.peak_bytes() >= before + kBytes * 9 / 10);
}

TEST_CASE("memory watch: memory that came and went unseen counts when told") {
  MemoryWatch watch;
  watch.sample(1ull << 40);
  CHECK(watch.peak_bytes() > 1ull << 40);
}

TEST_CASE("memory watch: program code that is mapped does not count") {
  const uint64_t now = anonymous_memory_bytes();
  CHECK(now > 0);
  MemoryWatch watch;
  // The bound at the start counts code that was touched late, so it is above.
  CHECK(watch.peak_bytes() >= now / 2);
}
