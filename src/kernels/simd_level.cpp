#include "kernels/simd_level.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd_level.cpp"
#include "hwy/foreach_target.h"

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

const char* name_of_target() {
  return hwy::TargetName(HWY_TARGET);
}

int bits_of_target() {
  return kVectorBits;
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(name_of_target);
HWY_EXPORT(bits_of_target);

const char* simd_level() {
  return HWY_DYNAMIC_DISPATCH(name_of_target)();
}

int simd_bits() {
  return HWY_DYNAMIC_DISPATCH(bits_of_target)();
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
