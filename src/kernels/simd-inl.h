// What every kernel uses, compiled once per SIMD target: vector types, sums in
// a fixed order, exp, and element-wise maps. Included by the kernels' sources
// only.
//
// Sums and maps give the same bits on every target that has a fused
// multiply-add: a sum has kSumLanes partial sums whatever the vectors' size.

// The guard flips for each target (see hwy/foreach_target.h).
#if defined(MLX_FLASH_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_SIMD_INL_H_
#undef MLX_FLASH_KERNELS_SIMD_INL_H_
#else
#define MLX_FLASH_KERNELS_SIMD_INL_H_
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;
using WordTag = hn::RebindToUnsigned<FloatTag>;
using IntTag = hn::RebindToSigned<FloatTag>;
using Floats = hn::Vec<FloatTag>;
using Words = hn::Vec<WordTag>;
using Ints = hn::Vec<IntTag>;

inline constexpr FloatTag kFloats{};
inline constexpr WordTag kWords{};
inline constexpr IntTag kInts{};
inline constexpr int64_t kLanes = hn::MaxLanes(kFloats);
inline constexpr int kVectorBits = static_cast<int>(32 * kLanes);

inline constexpr int64_t kSumLanes = 16;
inline constexpr int64_t kSumParts = kSumLanes / kLanes;

// Halves the lanes until one is left: lane i takes lane i + half.
template <class D>
HWY_INLINE float sum_halves(D, hn::Vec<D> v) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > 1) {
    const hn::Half<D> half;
    return sum_halves(
        half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
#endif
  return hn::GetLane(v);
}

// kSumLanes partial sums; element i of what is summed belongs to partial sum
// i % kSumLanes.
struct SumLanes {
  Floats part[kSumParts];

  HWY_INLINE SumLanes() {
    for (int64_t p = 0; p < kSumParts; ++p) {
      part[p] = hn::Zero(kFloats);
    }
  }

  HWY_INLINE float sum() {
    for (int64_t half = kSumParts / 2; half > 0; half /= 2) {
      for (int64_t p = 0; p < half; ++p) {
        part[p] = hn::Add(part[p], part[p + half]);
      }
    }
    return sum_halves(kFloats, part[0]);
  }
};

// Calls call(std::integral_constant<int, count>()), for code that is compiled
// for each number of rows from 1 to kMost. Calls nothing for another count.
template <int kMost, class Call>
HWY_INLINE void for_row_count(int64_t count, const Call& call) {
  if constexpr (kMost > 0) {
    if (count == kMost) {
      call(std::integral_constant<int, kMost>());
    } else {
      for_row_count<kMost - 1>(count, call);
    }
  }
}

// Calls call(n, first) for parts of `rows`, of nearly equal size: a small last
// one would waste what it loads. n is an integral_constant of at most kMost.
template <int kMost, class Call>
HWY_INLINE void for_row_parts(int64_t rows, const Call& call) {
  int64_t first = 0;
  for (int64_t parts = (rows + kMost - 1) / kMost; parts > 0; --parts) {
    const int64_t count = (rows - first + parts - 1) / parts;
    for_row_count<kMost>(count, [&](auto n) HWY_ATTR { call(n, first); });
    first += count;
  }
}

// Fetches the line at an address into the cache of that level and those behind
// it. Harmless where nothing is.
template <int kLevel>
HWY_INLINE void prefetch(uintptr_t address) {
  static_assert(kLevel == 1 || kLevel == 2);
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 4 - kLevel);
}

// Fetches the line `bytes` ahead of `from`, be it a place of an array or not:
// pointers may not leave theirs, addresses may.
HWY_INLINE void prefetch_ahead(const void* from, int64_t bytes) {
  prefetch<1>(
      reinterpret_cast<uintptr_t>(from) + static_cast<uintptr_t>(bytes));
}

// The first `n` of kLanes floats, the others `fill`.
HWY_INLINE Floats load_some(const float* from, int64_t n, float fill) {
  HWY_ALIGN float lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    lanes[i] = i < n ? from[i] : fill;
  }
  return hn::Load(kFloats, lanes);
}

HWY_INLINE void store_some(Floats v, int64_t n, float* to) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, kFloats, lanes);
  std::memcpy(to, lanes, n * sizeof(float));
}

HWY_INLINE Floats load_up_to(const float* from, int64_t n, float fill) {
  return n >= kLanes ? hn::LoadU(kFloats, from) : load_some(from, n, fill);
}

HWY_INLINE void store_up_to(Floats v, int64_t n, float* to) {
  if (n >= kLanes) {
    hn::StoreU(v, kFloats, to);
  } else {
    store_some(v, n, to);
  }
}

// 2^n for -126 <= n <= 127.
HWY_INLINE Floats power_of_two(Ints n) {
  return hn::BitCast(
      kFloats, hn::ShiftLeft<23>(hn::Add(n, hn::Set(kInts, 127))));
}

// exp with a relative error below 2e-7 where the result is a normal number; 0
// and infinity beyond; NaN for NaN.
HWY_INLINE Floats exp_lanes(Floats x) {
  const Floats low = hn::Set(kFloats, -104.0f);
  const Floats high = hn::Set(kFloats, 89.0f);
  // A NaN becomes `low` here, so that the conversion to integers is defined.
  Floats a = hn::IfThenElse(hn::Gt(x, low), x, low);
  a = hn::IfThenElse(hn::Lt(a, high), a, high);
  const Floats n =
      hn::Round(hn::Mul(a, hn::Set(kFloats, 1.44269504088896341f)));
  // exp(a - n ln(2)), the polynomial of the Cephes library; n times the first
  // part of ln(2) is exact.
  Floats r = hn::NegMulAdd(n, hn::Set(kFloats, 0.693359375f), a);
  r = hn::NegMulAdd(n, hn::Set(kFloats, -2.12194440e-4f), r);
  Floats p = hn::Set(kFloats, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(kFloats, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(kFloats, 1.0f));
  // 2^n in two factors, so that results near 0 and infinity are right.
  const auto whole = hn::ConvertTo(kInts, n);
  const auto half = hn::ShiftRight<1>(whole);
  const Floats result = hn::Mul(
      hn::Mul(p, power_of_two(half)), power_of_two(hn::Sub(whole, half)));
  return hn::IfThenElse(hn::Eq(x, x), result, x);
}

// out[i] = op(a[i], b[i]). The last, partial vector is computed as a full one,
// so an element's bits do not depend on where it stands.
template <class Op>
HWY_INLINE void
map_pairs(const Op& op, const float* a, const float* b, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats result =
        op(load_up_to(a + i, n - i, 0), load_up_to(b + i, n - i, 0));
    store_up_to(result, n - i, out + i);
  }
}

// silu(gate) * up, silu(a) = a / (1 + exp(-a)), written with exp(-|a|), which
// does not overflow.
struct Swiglu {
  HWY_INLINE Floats operator()(Floats gate, Floats up) const {
    const Floats e = exp_lanes(hn::Neg(hn::Abs(gate)));
    const auto negative = hn::Lt(gate, hn::Zero(kFloats));
    const Floats top = hn::IfThenElse(negative, hn::Mul(gate, e), gate);
    const Floats one = hn::Set(kFloats, 1.0f);
    return hn::Mul(hn::Div(top, hn::Add(one, e)), up);
  }
};

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
