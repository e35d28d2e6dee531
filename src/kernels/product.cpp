#include "kernels/product.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
#include "hwy/foreach_target.h"

#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

int64_t tile_rows() {
  return kTile;
}

// Sums of x over each group of `size`, a multiple of kSumLanes.
void sum_each_group(const float* x, int64_t groups, int64_t size, float* sums) {
  for (int64_t g = 0; g < groups; ++g) {
    SumLanes lanes;
    for (int64_t i = 0; i < size; i += kSumLanes) {
      for (int64_t p = 0; p < kSumParts; ++p) {
        lanes.part[p] = hn::Add(
            lanes.part[p], hn::LoadU(kFloats, x + g * size + i + p * kLanes));
      }
    }
    sums[g] = lanes.sum();
  }
}

void multiply_affine(const ProductTask& task) {
  switch (task.w->bits) {
    case 2:
      return multiply<AffineWeights<2>>(task);
    case 3:
      return multiply<AffineWeights<3>>(task);
    case 4:
      return multiply<AffineWeights<4>>(task);
    case 5:
      return multiply<AffineWeights<5>>(task);
    case 6:
      return multiply<AffineWeights<6>>(task);
    case 8:
      return multiply<AffineWeights<8>>(task);
  }
}

void multiply_any(const ProductTask& task) {
  switch (task.w->type) {
    case WeightType::f32:
      return multiply<F32Weights>(task);
    case WeightType::f16:
      return multiply<F16Weights>(task);
    case WeightType::bf16:
      return multiply<Bf16Weights>(task);
    case WeightType::affine:
      return multiply_affine(task);
  }
}

void gate_all(const float* up, int64_t n, float* gate) {
  map_pairs(Swiglu(), gate, up, n, gate);
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(tile_rows);
HWY_EXPORT(sum_each_group);
HWY_EXPORT(multiply_any);
HWY_EXPORT(gate_all);

int64_t product_tile() {
  return HWY_DYNAMIC_DISPATCH(tile_rows)();
}

void multiply_tile(const ProductTask& task) {
  HWY_DYNAMIC_DISPATCH(multiply_any)(task);
}

void sum_groups(const float* x, int64_t groups, int64_t size, float* sums) {
  HWY_DYNAMIC_DISPATCH(sum_each_group)(x, groups, size, sums);
}

void gate_products(const float* up, int64_t n, float* gate) {
  HWY_DYNAMIC_DISPATCH(gate_all)(up, n, gate);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
