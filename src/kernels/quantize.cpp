#include "kernels/quantize.h"

#include <algorithm>
#include <limits>

#include "kernels/column_order.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantize.cpp"
#include "hwy/foreach_target.h"

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

float sum_group(const float* x, int64_t size) {
  SumLanes lanes;
  for (int64_t i = 0; i < size; i += kSumLanes) {
    for (int64_t p = 0; p < kSumParts; ++p) {
      lanes.part[p] =
          hn::Add(lanes.part[p], hn::LoadU(kFloats, x + i + p * kLanes));
    }
  }
  return lanes.sum();
}

void sum_each_group(const float* x, int64_t groups, int64_t size, float* sums) {
  for (int64_t g = 0; g < groups; ++g) {
    sums[g] = sum_group(x + g * size, size);
  }
}

// The largest magnitude of x; NaN if any is infinite or NaN.
float largest_magnitude(const float* x, int64_t size) {
  Floats most = hn::Zero(kFloats);
  Floats strange = hn::Zero(kFloats); // x * 0: NaN where x is not finite
  for (int64_t i = 0; i < size; i += kLanes) {
    const Floats v = hn::LoadU(kFloats, x + i);
    most = hn::Max(most, hn::Abs(v));
    strange = hn::MulAdd(v, hn::Zero(kFloats), strange);
  }
  return hn::AllFalse(kFloats, hn::IsNaN(strange))
      ? hn::GetLane(hn::MaxOfLanes(kFloats, most))
      : std::numeric_limits<float>::quiet_NaN();
}

// to[i] = round(x[i] * factor) for 16 numbers, added to `sum`.
HWY_INLINE void round_16(const float* x, Floats factor, int8_t* to, Ints& sum) {
  const hn::Rebind<int8_t, IntTag> narrow;
  for (int64_t i = 0; i < 16; i += kLanes) {
    // A NaN becomes something in range.
    auto v = hn::NearestInt(hn::Mul(hn::LoadU(kFloats, x + i), factor));
    v = hn::Min(hn::Max(v, hn::Set(kInts, -127)), hn::Set(kInts, 127));
    hn::StoreU(hn::DemoteTo(narrow, v), narrow, to + i);
    sum = hn::Add(sum, v);
  }
}

// The even ones of 16 bytes to `even`, the odd ones to `odd`.
HWY_INLINE void split_16(const int8_t* from, int8_t* even, int8_t* odd) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < 8; ++i) {
    even[i] = from[2 * i];
    odd[i] = from[2 * i + 1];
  }
#else
  const hn::CappedTag<uint8_t, 16> bytes;
  HWY_ALIGN static constexpr uint8_t kOrder[16] = {
      0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
  HWY_ALIGN uint8_t both[16];
  hn::Store(
      hn::TableLookupBytes(
          hn::LoadU(bytes, reinterpret_cast<const uint8_t*>(from)),
          hn::Load(bytes, kOrder)),
      bytes,
      both);
  std::memcpy(even, both, 8);
  std::memcpy(odd, both + 8, 8);
#endif
}

void quantize_each_group(
    const float* x,
    int64_t groups,
    int64_t size,
    int planes,
    int8_t* integers,
    float* scales,
    float* sums) {
  const int64_t in = groups * size;
  const int64_t stride = kChunkBytes * planes;
  if (in % stride != 0) { // columns and holes of the last chunk
    std::fill_n(integers + in / stride * stride, stride, 0);
  }
  for (int64_t g = 0; g < groups; ++g) {
    const float* from = x + g * size;
    const float most = largest_magnitude(from, size);
    // Beyond 127 / the smallest normal number the factor would be infinite.
    const float factor = most >= 0x1.0p-119f ? 127.0f / most : 0.0f;
    const float scale = factor == 0 && most == most ? 0.0f : most / 127.0f;
    auto sum = hn::Zero(kInts);
    for (int64_t i = 0; i < size; i += 16) {
      const int64_t c = g * size + i;
      if (planes == 1) {
        round_16(x + c, hn::Set(kFloats, factor), integers + c, sum);
        continue;
      }
      HWY_ALIGN int8_t natural[16];
      round_16(x + c, hn::Set(kFloats, factor), natural, sum);
      // A constant, since it is divided by.
      int8_t* even = integers + column_offset(2, c);
      split_16(natural, even, even + kChunkBytes);
    }
    scales[g] = scale;
    sums[g] = static_cast<float>(hn::GetLane(hn::SumOfLanes(kInts, sum)));
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(sum_each_group);
HWY_EXPORT(quantize_each_group);

void sum_groups(const float* x, int64_t groups, int64_t size, float* sums) {
  HWY_DYNAMIC_DISPATCH(sum_each_group)(x, groups, size, sums);
}

void quantize_groups(
    const float* x,
    int64_t groups,
    int64_t size,
    int planes,
    int8_t* integers,
    float* scales,
    float* sums) {
  HWY_DYNAMIC_DISPATCH(quantize_each_group)
  (x, groups, size, planes, integers, scales, sums);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
