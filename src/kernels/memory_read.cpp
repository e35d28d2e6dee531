#include "kernels/memory_read.h"

#include <atomic>

#include "base/align.h"
#include "base/check.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/memory_read.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Eight streams side by side, of a cache line in turn: the processor's
// prefetchers follow each of them, and one alone does not keep memory busy.
// Additions are far cheaper than the loads.
uint64_t sum_words(const uint64_t* words, int64_t n) {
  constexpr hn::CappedTag<uint64_t, 8> kTag;
  constexpr int64_t kLanes = hn::MaxLanes(kTag);
  constexpr int64_t kLine = 8;
  constexpr int64_t kStreams = 8;
  hn::Vec<decltype(kTag)> sums[kStreams];
  for (auto& sum : sums) {
    sum = hn::Zero(kTag);
  }
  const int64_t part = round_down(n / kStreams, kLine);
  for (int64_t line = 0; line < part; line += kLine) {
    for (int64_t s = 0; s < kStreams; ++s) {
      for (int64_t i = 0; i < kLine; i += kLanes) {
        sums[s] =
            hn::Add(sums[s], hn::LoadU(kTag, words + s * part + line + i));
      }
    }
  }
  uint64_t total = 0;
  for (const auto& sum : sums) {
    HWY_ALIGN uint64_t lanes[kLanes];
    hn::Store(sum, kTag, lanes);
    for (const uint64_t lane : lanes) {
      total += lane;
    }
  }
  for (int64_t i = kStreams * part; i < n; ++i) {
    total += words[i];
  }
  return total;
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(sum_words);

uint64_t read_memory(ThreadPool& pool, std::span<const std::byte> memory) {
  MLX_FLASH_CHECK(reinterpret_cast<uintptr_t>(memory.data()) % 8 == 0);
  MLX_FLASH_CHECK(memory.size() % 8 == 0);
  constexpr int64_t kGrainWords = 8192;
  const auto* words = reinterpret_cast<const uint64_t*>(memory.data());
  std::atomic<uint64_t> total{0};
  const auto body = [&](int64_t begin, int64_t end, int) {
    total.fetch_add(
        HWY_DYNAMIC_DISPATCH(sum_words)(words + begin, end - begin),
        std::memory_order_relaxed);
  };
  pool.parallel_for(static_cast<int64_t>(memory.size() / 8), kGrainWords, body);
  return total;
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
