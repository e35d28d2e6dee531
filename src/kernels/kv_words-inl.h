// The two types of keys and values as attention multiplies them: a vector of
// words from a page (a word is an f32 or a pair of i16, see kernels/kv_page.h)
// times one word of factors, which are a query's numbers or the weights of
// positions, added to sums with a lane for each position or column.
//
// f32 is fused on targets that have it; sums of i16 are exact, so that every
// way below gives the same ones. Constructors are written out: implicit ones
// would be compiled without the target's instructions.

#if defined(MLX_FLASH_KERNELS_KV_WORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_KV_WORDS_INL_H_
#undef MLX_FLASH_KERNELS_KV_WORDS_INL_H_
#else
#define MLX_FLASH_KERNELS_KV_WORDS_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "kernels/kv_page.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Queries at once: with kVectors of positions or columns (below) for each,
// their sums, those vectors and a factor fit the registers.
inline constexpr int kQueriesAtOnce = kLanes == 16 ? 8
    : kLanes == 8 || HWY_ARCH_ARM_A64              ? 6
                                                   : 2;

struct F32Kv {
  static constexpr bool kRounds = false; // queries and weights
  static constexpr int64_t kWordNumbers = 1;
  using Number = float;
  using Vector = Floats;
  static constexpr int kVectors =
      kLanes == 16 ? 2 : static_cast<int>(kSumParts);

  static HWY_INLINE Vector load(const std::byte* words) {
    return hn::LoadU(kFloats, reinterpret_cast<const float*>(words));
  }
  static HWY_INLINE Vector factor(const float* x) {
    return hn::Set(kFloats, *x);
  }

  // Begins with what was summed before.
  struct Sum {
    Floats sum;

    HWY_INLINE Sum() {}
    HWY_INLINE void start(Floats before) {
      sum = before;
    }
    HWY_INLINE void add(Vector words, Vector factor) {
      sum = hn::MulAdd(words, factor, sum);
    }
    HWY_INLINE Floats finish(Floats, Floats) const {
      return sum;
    }
  };
};

// Sums of pairs' products, of which each lane has its own.
struct LaneSum {
  static constexpr int kVectors = F32Kv::kVectors;
  Ints sum;

  HWY_INLINE LaneSum() {}
  HWY_INLINE void start() {
    sum = hn::Zero(kInts);
  }
  HWY_INLINE Ints total() const {
    return sum;
  }
};

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4

struct PairSum : LaneSum {
  HWY_INLINE PairSum() {}
  HWY_INLINE void add(Ints words, Ints factor) {
    const hn::Repartition<int16_t, IntTag> halves;
    Ints unused = hn::Zero(kInts);
    sum = hn::ReorderWidenMulAccumulate(
        kInts,
        hn::BitCast(halves, words),
        hn::BitCast(halves, factor),
        sum,
        unused);
  }
};

#elif HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

struct PairSum {
  static constexpr int kVectors = F32Kv::kVectors / 2;
  int32x4_t low;
  int32x4_t high;

  HWY_INLINE void start() {
    low = vdupq_n_s32(0);
    high = vdupq_n_s32(0);
  }
  HWY_INLINE void add(Ints words, Ints factor) {
    const int16x8_t w = vreinterpretq_s16_s32(words.raw);
    const int16x8_t f = vreinterpretq_s16_s32(factor.raw);
    low = vmlal_s16(low, vget_low_s16(w), vget_low_s16(f));
    high = vmlal_high_s16(high, w, f);
  }
  // Words 0 and 1 have the low sums' pairs of lanes, 2 and 3 the high ones'.
  HWY_INLINE Ints total() const {
    return Ints{vpaddq_s32(low, high)};
  }
};

#else

struct PairSum : LaneSum {
  HWY_INLINE PairSum() {}
  HWY_INLINE void add(Ints words, Ints factor) {
    const Ints high =
        hn::Mul(hn::ShiftRight<16>(words), hn::ShiftRight<16>(factor));
    const Ints low = hn::Mul(low_half(words), low_half(factor));
    sum = hn::Add(sum, hn::Add(low, high));
  }

 private:
  static HWY_INLINE Ints low_half(Ints words) {
    return hn::ShiftRight<16>(hn::ShiftLeft<16>(words));
  }
};

#endif

#undef MLX_FLASH_HAVE_PAIR_DOT
// With the processor's own instruction for pairs, which comes with the one for
// bytes (kernels/byte_dot.h); written as assembly so that no other code is
// compiled for it.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define MLX_FLASH_HAVE_PAIR_DOT 1
struct PairDotSum : LaneSum {
  HWY_INLINE PairDotSum() {}
  HWY_INLINE void add(Ints words, Ints factor) {
#if HWY_TARGET <= HWY_AVX3
    asm("vpdpwssd %2, %1, %0"
        : "+v"(sum.raw)
        : "v"(words.raw), "v"(factor.raw));
#else
    asm("%{vex%} vpdpwssd %2, %1, %0"
        : "+x"(sum.raw)
        : "x"(words.raw), "x"(factor.raw));
#endif
  }
};
#else
#define MLX_FLASH_HAVE_PAIR_DOT 0
#endif

template <class Pairs>
struct I16Kv {
  static constexpr bool kRounds = true;
  static constexpr int64_t kWordNumbers = 2;
  using Number = int16_t;
  using Vector = Ints;
  static constexpr int kVectors = Pairs::kVectors;

  static HWY_INLINE Vector load(const std::byte* words) {
    return hn::LoadU(kInts, reinterpret_cast<const int32_t*>(words));
  }
  static HWY_INLINE Vector factor(const int16_t* x) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof(pair));
    return hn::Set(kInts, pair);
  }

  // Multiplied by its unit and added to what was summed before at its end.
  struct Sum {
    Pairs pairs;

    HWY_INLINE Sum() {}
    HWY_INLINE void start(Floats) {
      pairs.start();
    }
    HWY_INLINE void add(Vector words, Vector factor) {
      pairs.add(words, factor);
    }
    HWY_INLINE Floats finish(Floats before, Floats unit) const {
      return hn::MulAdd(hn::ConvertTo(kFloats, pairs.total()), unit, before);
    }
  };
};

// out[i] = x[i] * factor, rounded; whole vectors and whole pairs, with zeros
// behind x. Adding 1.5 * 2^23 rounds to an integer and leaves it in the last
// bits.
HWY_INLINE void
round_numbers(const float* x, int64_t n, float factor, int16_t* out) {
  const Floats f = hn::Set(kFloats, factor);
  const Floats magic = hn::Set(kFloats, 0x1.8p23f);
  const hn::Rebind<uint16_t, WordTag> halves;
  const int64_t pairs = (n + 1) / 2;
  for (int64_t i = 0; i < 2 * pairs; i += kLanes) {
    const Floats rounded = hn::MulAdd(load_up_to(x + i, n - i, 0), f, magic);
    hn::StoreU(
        hn::TruncateTo(halves, hn::BitCast(kWords, rounded)),
        halves,
        reinterpret_cast<uint16_t*>(out + i));
  }
}

// What numbers are multiplied with before they are rounded, by the sum of n
// magnitudes and their largest: as much as leaves each 16 bits, and their
// magnitudes adding up to at most kKvFactors.
HWY_INLINE Floats rounding_factor(Floats total, Floats most, int64_t n) {
  const Floats room = hn::Set(kFloats, room_for_rounding(kKvFactors, n));
  const Floats factor =
      hn::Min(hn::Div(room, total), hn::Div(hn::Set(kFloats, 32767.0f), most));
  return hn::IfThenElseZero(hn::Ge(most, hn::Set(kFloats, kKvLeast)), factor);
}

// Of a factor the unit of the rounded numbers. NaN if `total`, their sum, is
// not finite.
HWY_INLINE Floats rounding_unit(Floats factor, Floats total) {
  const Floats one = hn::Set(kFloats, 1.0f);
  const Floats zero = hn::Zero(kFloats);
  const auto rounds = hn::Gt(factor, zero);
  const Floats unit = hn::IfThenElseZero(
      rounds, hn::Div(one, hn::IfThenElse(rounds, factor, one)));
  return hn::MulAdd(zero, total, unit);
}

// The sum of the magnitudes of n numbers, and the largest.
HWY_INLINE void
sum_magnitudes(const float* x, int64_t n, float& total, float& most) {
  SumLanes sum;
  Floats largest = hn::Zero(kFloats);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats magnitude = hn::Abs(load_up_to(x + i, n - i, 0));
    Floats& part = sum.part[i / kLanes % kSumParts];
    part = hn::Add(part, magnitude);
    largest = hn::Max(largest, magnitude);
  }
  total = sum.sum();
  most = hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
