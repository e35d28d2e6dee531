// The parts of a softmax over one row, for the router.

#if defined(MLX_FLASH_KERNELS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_SOFTMAX_INL_H_
#undef MLX_FLASH_KERNELS_SOFTMAX_INL_H_
#else
#define MLX_FLASH_KERNELS_SOFTMAX_INL_H_
#endif

#include <limits>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// The largest number of a row that is not NaN; minus infinity without one.
HWY_INLINE float maximum(const float* x, int64_t n) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  Floats most = hn::Set(kFloats, kLeast);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats v = load_up_to(x + i, n - i, kLeast);
    most = hn::IfThenElse(hn::Gt(v, most), v, most);
  }
  return hn::GetLane(hn::MaxOfLanes(kFloats, most));
}

// exp(x - most). What equals `most` gives 1, also when both are infinite.
HWY_INLINE Floats exp_above(Floats x, float most) {
  const Floats m = hn::Set(kFloats, most);
  const Floats d =
      hn::IfThenElse(hn::Eq(x, m), hn::Zero(kFloats), hn::Sub(x, m));
  return exp_lanes(d);
}

// The sum of exp(x - most) over a row, without what is NaN.
HWY_INLINE float sum_exp(const float* x, int64_t n, float most) {
  SumLanes sums;
  for (int64_t i = 0; i < n; i += kSumLanes) {
    for (int64_t p = 0; p < kSumParts; ++p) {
      const int64_t at = i + p * kLanes;
      if (at < n) {
        const Floats e = exp_above(
            load_up_to(x + at, n - at, std::numeric_limits<float>::quiet_NaN()),
            most);
        sums.part[p] = hn::Add(
            sums.part[p], hn::IfThenElse(hn::Eq(e, e), e, hn::Zero(kFloats)));
      }
    }
  }
  return sums.sum();
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
