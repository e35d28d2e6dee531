#include "kernels/router.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/router.cpp"
#include "hwy/foreach_target.h"

#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// The k best experts seen so far, best first.
struct BestExperts {
  uint32_t* ids;
  float* weights;
  int64_t k;
  int64_t count = 0;

  // Experts come in the order of their ids, so an equal one stays behind.
  HWY_INLINE void offer(uint32_t id, float p) {
    if (count == k && !before(p, weights[k - 1])) {
      return;
    }
    int64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && before(p, weights[at - 1]); --at) {
      weights[at] = weights[at - 1];
      ids[at] = ids[at - 1];
    }
    weights[at] = p;
    ids[at] = id;
  }

  // NaN comes after every number.
  static HWY_INLINE bool before(float a, float b) {
    return a > b || (b != b && a == a);
  }
};

void route_row(
    const float* logits,
    int64_t experts,
    int64_t k,
    bool normalize,
    uint32_t* ids,
    float* weights) {
  const float most = maximum(logits, experts);
  const Floats total = hn::Set(kFloats, sum_exp(logits, experts, most));
  BestExperts best{ids, weights, k};
  for (int64_t e = 0; e < experts; e += kLanes) {
    const Floats logit = load_up_to(logits + e, experts - e, 0);
    HWY_ALIGN float p[kLanes];
    hn::Store(hn::Div(exp_above(logit, most), total), kFloats, p);
    const int64_t n = std::min(kLanes, experts - e);
    for (int64_t i = 0; i < n; ++i) {
      best.offer(static_cast<uint32_t>(e + i), p[i]);
    }
  }
  if (normalize) {
    float sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      sum += weights[j];
    }
    for (int64_t j = 0; j < k; ++j) {
      weights[j] /= sum;
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(route_row);

void route(
    ThreadPool& pool,
    const float* logits,
    int64_t rows,
    int64_t experts,
    int64_t k,
    bool normalize,
    uint32_t* ids,
    float* weights) {
  MLX_FLASH_CHECK(k >= 1 && k <= experts);
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(route_row)(
          logits + r * experts,
          experts,
          k,
          normalize,
          ids + r * k,
          weights + r * k);
    }
  };
  // About 20,000 logits are worth waking a thread.
  pool.parallel_for(rows, 1 + 20000 / experts, body);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
