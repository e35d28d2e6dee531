// The softmax of attention, a page at a time: scores become weights, relative
// to the largest score so far.

#if defined(MLX_FLASH_KERNELS_ATTENTION_SOFTMAX_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_ATTENTION_SOFTMAX_INL_H_
#undef MLX_FLASH_KERNELS_ATTENTION_SOFTMAX_INL_H_
#else
#define MLX_FLASH_KERNELS_ATTENTION_SOFTMAX_INL_H_
#endif

#include <algorithm>

#include "kernels/attention_run.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

static_assert(kWeightSums == kSumLanes);

// 2^(x * scale - most) for x * scale <= most, with a relative error below 3e-7;
// 0 below 2^-125, which no sum of weights feels, as the largest is 1. NaN for
// NaN. The polynomial is that of the Cephes library's exp2f(). The product is
// rounded, as largest_score() rounds it, so that the largest score's weight is
// exactly 1 however large it is.
HWY_INLINE Floats weight_of(Floats x, Floats scale, Floats most) {
  const Floats t = hn::Sub(hn::Mul(x, scale), most);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the last bits, here
  // with 127 more, which makes them a power's exponent.
  const Floats magic = hn::Set(kFloats, 0x1.8p23f + 127);
  const Floats rounded = hn::Add(t, magic);
  const Floats f = hn::Sub(t, hn::Sub(rounded, magic));
  Floats p = hn::Set(kFloats, 1.535336188319500e-4f);
  p = hn::MulAdd(p, f, hn::Set(kFloats, 1.339887440266574e-3f));
  p = hn::MulAdd(p, f, hn::Set(kFloats, 9.618437357674640e-3f));
  p = hn::MulAdd(p, f, hn::Set(kFloats, 5.550332471162809e-2f));
  p = hn::MulAdd(p, f, hn::Set(kFloats, 2.402264791363012e-1f));
  p = hn::MulAdd(p, f, hn::Set(kFloats, 6.931472028550421e-1f));
  p = hn::MulAdd(p, f, hn::Set(kFloats, 1.0f));
  const Floats power =
      hn::BitCast(kFloats, hn::ShiftLeft<23>(hn::BitCast(kInts, rounded)));
  const auto small = hn::Lt(t, hn::Set(kFloats, -125.0f));
  return hn::IfThenZeroElse(small, hn::Mul(p, power));
}

// v, with zeros behind the first `n` lanes.
HWY_INLINE Floats first_lanes(Floats v, int64_t n) {
  return n >= kLanes
      ? v
      : hn::IfThenElseZero(hn::FirstN(kFloats, static_cast<size_t>(n)), v);
}

// The largest of `most` and the n scores, at least one, times `scale`, which is
// not negative.
HWY_INLINE float
largest_score(const float* x, int64_t n, float scale, float most) {
  Floats largest = hn::Set(kFloats, x[0]);
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats v = hn::LoadU(kFloats, x + i);
    if (i + kLanes > n) {
      const auto left = static_cast<size_t>(n - i);
      v = hn::IfThenElse(hn::FirstN(kFloats, left), v, largest);
    }
    largest = hn::Max(v, largest);
  }
  const float score = scale * hn::GetLane(hn::MaxOfLanes(kFloats, largest));
  return score > most ? score : most;
}

// A query's n scores, which become weights.
struct Weighing {
  float* scores;
  int64_t n;
  Floats scale;
  Floats most;

  // Weights of positions from `i` on, zeros behind the end.
  HWY_INLINE Floats at(int64_t i) const {
    const Floats x = hn::LoadU(kFloats, scores + i);
    return first_lanes(weight_of(x, scale, most), n - i);
  }
};

// Replaces the scores by weights, and adds them to factor * weights.
HWY_INLINE void weigh_scores(const Weighing& of, float factor, float* weights) {
  for (int64_t p = 0; p < kWeightSums; p += kLanes) {
    Floats sum =
        hn::Mul(hn::Set(kFloats, factor), hn::LoadU(kFloats, weights + p));
    for (int64_t i = p; i < of.n; i += kWeightSums) {
      const Floats weight = of.at(i);
      hn::StoreU(weight, kFloats, of.scores + i);
      sum = hn::Add(sum, weight);
    }
    hn::StoreU(sum, kFloats, weights + p);
  }
}

// The same, and multiplies the weights by the scales of values, with zeros
// behind them up to a page's end. Gives the sum of these products and the
// largest.
HWY_INLINE void weigh_scores(
    const Weighing& of,
    float factor,
    const float* scales,
    float* weights,
    float& total,
    float& most) {
  SumLanes products;
  Floats largest = hn::Zero(kFloats);
  for (int64_t p = 0; p < kWeightSums; p += kLanes) {
    Floats sum =
        hn::Mul(hn::Set(kFloats, factor), hn::LoadU(kFloats, weights + p));
    Floats& part = products.part[p / kLanes];
    int64_t i = p;
    for (; i < of.n; i += kWeightSums) {
      const Floats weight = of.at(i);
      sum = hn::Add(sum, weight);
      const Floats product = first_lanes(
          hn::Mul(weight, hn::LoadU(kFloats, scales + i)), of.n - i);
      hn::StoreU(product, kFloats, of.scores + i);
      part = hn::Add(part, product);
      largest = hn::Max(largest, product);
    }
    for (; i < kKvPageTokens; i += kWeightSums) {
      hn::StoreU(hn::Zero(kFloats), kFloats, of.scores + i);
    }
    hn::StoreU(sum, kFloats, weights + p);
  }
  total = products.sum();
  most = hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
