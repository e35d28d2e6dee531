#include "engine/memory_speed.h"

#include <algorithm>
#include <cstring>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "kernels/memory_read.h"
#include "mlx_flash/bench_figures.h"
#include "platform/large_pages.h"

namespace mlx_flash {

namespace {

// Every page must be one of its own: those that nobody has written to are all
// the same page of zeros, which no read fetches from memory.
void touch(ThreadPool& pool, std::span<std::byte> memory) {
  constexpr int64_t kGrain = 1 << 20;
  pool.parallel_for(
      static_cast<int64_t>(memory.size()),
      kGrain,
      [&](int64_t begin, int64_t end, int) {
        std::memset(memory.data() + begin, 0x5A, end - begin);
      });
}

} // namespace

uint64_t memory_probe_bytes(uint64_t cache_bytes, uint64_t free_bytes) {
  constexpr uint64_t kLeast = 256 << 20;
  constexpr uint64_t kMost = 1 << 30;
  constexpr uint64_t kPage = 4096;
  const uint64_t wanted =
      std::clamp(std::min(cache_bytes, kMost) * 2, kLeast, kMost);
  return std::max(kPage, round_down(std::min(wanted, free_bytes / 4), kPage));
}

double
measure_memory_speed(int threads, uint64_t buffer_bytes, double seconds) {
  constexpr size_t kLeastPasses = 3;
  ThreadPool pool(threads);
  const AlignedBuffer buffer(buffer_bytes);
  prefer_large_pages(buffer.span()); // as weights are kept
  touch(pool, buffer.span());
  std::vector<double> speeds;
  const double end = now_seconds() + seconds;
  while (speeds.size() < kLeastPasses || now_seconds() < end) {
    const double begin = now_seconds();
    const volatile uint64_t sum = kernels::read_memory(pool, buffer.span());
    static_cast<void>(sum);
    speeds.push_back(
        static_cast<double>(buffer.size()) / (now_seconds() - begin) / 1e9);
  }
  return spread_of(std::move(speeds))->median;
}

} // namespace mlx_flash
