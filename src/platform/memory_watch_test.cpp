#include "platform/memory_watch.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <thread>

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

TEST_CASE("memory watch: what another watch has seen counts") {
  MemoryWatch watch;
  watch.include(1ull << 40);
  watch.include(1);
  CHECK(watch.peak_bytes() == 1ull << 40);
}

TEST_CASE("memory follower: sees what stays for some milliseconds") {
  MemoryFollower follower;
  const uint64_t before = anonymous_memory_bytes();
  {
    const AlignedBuffer buffer(kBytes);
    std::memset(buffer.data(), 1, kBytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  CHECK(follower.peak_bytes() >= before + kBytes * 9 / 10);
}
