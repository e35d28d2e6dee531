#include "platform/memory_watch.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

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

TEST_CASE("memory watch: several threads may tell at once") {
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEach = 10'000;
  MemoryWatch watch;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&watch, t] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        watch.include(i * kThreads + t);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(watch.peak_bytes() == kEach * kThreads + kThreads - 1);
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
