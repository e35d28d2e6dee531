// The innermost loop: some rows of x times a panel, numbers in memory of which
// each column is a vector lane of its own.

#if defined(MLX_FLASH_KERNELS_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_PANEL_INL_H_
#undef MLX_FLASH_KERNELS_PANEL_INL_H_
#else
#define MLX_FLASH_KERNELS_PANEL_INL_H_
#endif

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// sum[r][c] = the sum over k below `n` of panel[k * stride + column c] times
// x[r][k].
template <int kRows, int kColumns, class Tag>
HWY_INLINE void sum_panel(
    Tag tag,
    const float* const (&x)[kRows],
    int64_t n,
    const float* HWY_RESTRICT panel,
    int64_t stride,
    hn::Vec<Tag> (&sum)[kRows][kColumns]) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int c = 0; c < kColumns; ++c) {
      sum[r][c] = hn::Zero(tag);
    }
  }
  for (int64_t k = 0; k < n; ++k) {
    hn::Vec<Tag> weights[kColumns];
    HWY_UNROLL(8)
    for (int c = 0; c < kColumns; ++c) {
      weights[c] = hn::LoadU(tag, panel + k * stride + c * hn::MaxLanes(tag));
    }
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(tag, x[r][k]);
      HWY_UNROLL(8)
      for (int c = 0; c < kColumns; ++c) {
        sum[r][c] = hn::MulAdd(weights[c], factor, sum[r][c]);
      }
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
