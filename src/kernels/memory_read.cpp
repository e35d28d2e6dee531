#include "kernels/memory_read.h"

#include <atomic>

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

// Additions are far cheaper than the loads; eight sums, so that none waits for
// another. Several streams side by side are not faster: with large pages the
// processor's prefetchers keep up with one.
uint64_t sum_words(const uint64_t* words, int64_t n) {
  constexpr hn::CappedTag<uint64_t, 8> kTag;
  constexpr int64_t kLanes = hn::MaxLanes(kTag);
  constexpr int64_t kSums = 8;
  hn::Vec<decltype(kTag)> sums[kSums];
  for (auto& sum : sums) {
    sum = hn::Zero(kTag);
  }
  int64_t i = 0;
  for (; i + kSums * kLanes <= n; i += kSums * kLanes) {
    for (int64_t s = 0; s < kSums; ++s) {
      sums[s] = hn::Add(sums[s], hn::LoadU(kTag, words + i + s * kLanes));
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
  for (; i < n; ++i) {
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
