#include "kernels/product.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
#include "hwy/foreach_target.h"

#include "kernels/byte_dot.h"
#include "kernels/dense_panel-inl.h"
#include "kernels/integer_product-inl.h"
#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

int64_t tile_rows() {
  return kTile;
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

template <class Sum>
void multiply_integers(const ProductTask& task) {
  if (task.w->type == WeightType::mxfp4) {
    return multiply_codes<Mxfp4Codes, Sum>(task);
  }
  switch (task.w->bits) {
    case 2:
      return multiply_codes<Codes<2>, Sum>(task);
    case 3:
      return multiply_codes<Codes<3>, Sum>(task);
    case 4:
      return multiply_codes<Codes<4>, Sum>(task);
    case 5:
      return multiply_codes<Codes<5>, Sum>(task);
    case 6:
      return multiply_codes<Codes<6>, Sum>(task);
    case 8:
      return multiply_codes<Codes<8>, Sum>(task);
  }
}

void multiply_any(const ProductTask& task) {
  if (task.integers) {
#if MLX_FLASH_HAVE_BYTE_DOT
    if (uses_byte_dot(kVectorBits)) {
      return multiply_integers<ByteDotSum>(task);
    }
#endif
    return multiply_integers<BasicSum>(task);
  }
  switch (task.w->type) {
    case WeightType::f32:
      return multiply_dense<float, F32Weights>(task);
    case WeightType::f16:
      return multiply_dense<hwy::float16_t, F16Weights>(task);
    case WeightType::bf16:
      return multiply_dense<hwy::bfloat16_t, Bf16Weights>(task);
    case WeightType::affine:
      return multiply_affine(task);
    case WeightType::mxfp4:
      return multiply<Mxfp4Weights>(task);
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
HWY_EXPORT(multiply_any);
HWY_EXPORT(gate_all);

int64_t product_tile() {
  return HWY_DYNAMIC_DISPATCH(tile_rows)();
}

void multiply_tile(const ProductTask& task) {
  HWY_DYNAMIC_DISPATCH(multiply_any)(task);
}

void gate_products(const float* up, int64_t n, float* gate) {
  HWY_DYNAMIC_DISPATCH(gate_all)(up, n, gate);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
