// Dot products of bytes: in each 32-bit lane, four codes (unsigned weights)
// times four signed bytes of x, added up. Integers, so the order of additions
// is free and every way below gives the same sums.
//
// A Sum takes some quads of a block of weights: most_quads() of those whose
// codes are at most `most`, 8, 4 or, where none fit, 0. start() and finish()
// carry the totals of what came before. Constructors are written out: implicit
// ones would be compiled without the target's instructions.

#if defined(MLX_FLASH_KERNELS_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_DOT_INL_H_
#undef MLX_FLASH_KERNELS_DOT_INL_H_
#else
#define MLX_FLASH_KERNELS_DOT_INL_H_
#endif

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Quads whose products fit 16 bits, when each adds `codes` times a byte of x.
constexpr int quads_in_16_bits(int codes) {
  constexpr int kMost = 32767 / 127;
  return 8 * codes <= kMost ? 8 : 4 * codes <= kMost ? 4 : 0;
}

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4

// Products are added in pairs to 16-bit lanes.
struct PairSum {
  static constexpr int most_quads(int most) {
    return quads_in_16_bits(2 * most);
  }
  static constexpr int kRegisters = 1;

#if HWY_MAX_BYTES == 64
  using Raw = __m512i;
  static HWY_INLINE Raw pairs(Raw codes, Raw x) {
    return _mm512_maddubs_epi16(codes, x);
  }
  static HWY_INLINE Raw plus(Raw a, Raw b) {
    return _mm512_add_epi16(a, b);
  }
  static HWY_INLINE Raw quads(Raw a) {
    return _mm512_madd_epi16(a, _mm512_set1_epi16(1));
  }
#elif HWY_MAX_BYTES == 32
  using Raw = __m256i;
  static HWY_INLINE Raw pairs(Raw codes, Raw x) {
    return _mm256_maddubs_epi16(codes, x);
  }
  static HWY_INLINE Raw plus(Raw a, Raw b) {
    return _mm256_add_epi16(a, b);
  }
  static HWY_INLINE Raw quads(Raw a) {
    return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
  }
#else
  using Raw = __m128i;
  static HWY_INLINE Raw pairs(Raw codes, Raw x) {
    return _mm_maddubs_epi16(codes, x);
  }
  static HWY_INLINE Raw plus(Raw a, Raw b) {
    return _mm_add_epi16(a, b);
  }
  static HWY_INLINE Raw quads(Raw a) {
    return _mm_madd_epi16(a, _mm_set1_epi16(1));
  }
#endif

  Raw sum;

  HWY_INLINE void start(Ints) {
    sum = hn::Zero(kInts).raw;
  }
  HWY_INLINE void add(Words codes, Words x) {
    sum = plus(sum, pairs(codes.raw, x.raw));
  }
  HWY_INLINE Ints finish(Ints before) const {
    return hn::Add(before, Ints{quads(sum)});
  }
};
using BasicSum = PairSum;

#elif HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

// Products are added to 16-bit lanes.
struct WideningSum {
  static constexpr int most_quads(int most) {
    return quads_in_16_bits(most);
  }
  static constexpr int kRegisters = 2;

  int16x8_t low;
  int16x8_t high;

  HWY_INLINE void start(Ints) {
    low = vdupq_n_s16(0);
    high = vdupq_n_s16(0);
  }
  HWY_INLINE void add(Words codes, Words x) {
    const int8x16_t c = vreinterpretq_s8_u32(codes.raw);
    const int8x16_t b = vreinterpretq_s8_u32(x.raw);
    low = vmlal_s8(low, vget_low_s8(c), vget_low_s8(b));
    high = vmlal_high_s8(high, c, b);
  }
  HWY_INLINE Ints finish(Ints before) const {
    const int32x4_t sum = vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
    return hn::Add(before, Ints{sum});
  }
};
using BasicSum = WideningSum;

#else

struct PortableSum {
  static constexpr int most_quads(int) {
    return 8;
  }
  static constexpr int kRegisters = 1;

  Ints sum;

  HWY_INLINE PortableSum() {}
  HWY_INLINE void start(Ints before) {
    sum = before;
  }
  HWY_INLINE void add(Words codes, Words x) {
    add_byte<0>(codes, x);
    add_byte<1>(codes, x);
    add_byte<2>(codes, x);
    add_byte<3>(codes, x);
  }
  HWY_INLINE Ints finish(Ints) const {
    return sum;
  }

 private:
  template <int i>
  HWY_INLINE void add_byte(Words codes, Words x) {
    const Words code =
        hn::And(hn::ShiftRight<8 * i>(codes), hn::Set(kWords, 255));
    const Ints factor =
        hn::ShiftRight<24>(hn::BitCast(kInts, hn::ShiftLeft<24 - 8 * i>(x)));
    sum = hn::Add(sum, hn::Mul(hn::BitCast(kInts, code), factor));
  }
};
using BasicSum = PortableSum;

#endif

#undef MLX_FLASH_HAVE_BYTE_DOT
// With the processor's own instruction for four bytes, which not all
// processors of a target have (kernels/byte_dot.h); written as assembly so
// that no other code is compiled for it.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define MLX_FLASH_HAVE_BYTE_DOT 1
struct ByteDotSum {
  static constexpr int most_quads(int) {
    return 8;
  }
  static constexpr int kRegisters = 1;

  Ints sum;

  HWY_INLINE ByteDotSum() {}
  HWY_INLINE void start(Ints before) {
    sum = before;
  }
  HWY_INLINE void add(Words codes, Words x) {
#if HWY_TARGET <= HWY_AVX3
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(codes.raw), "v"(x.raw));
#else
    asm("%{vex%} vpdpbusd %2, %1, %0"
        : "+x"(sum.raw)
        : "x"(codes.raw), "x"(x.raw));
#endif
  }
  HWY_INLINE Ints finish(Ints) const {
    return sum;
  }
};
#elif HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#define MLX_FLASH_HAVE_BYTE_DOT 1
// Signed times signed: codes stay below 128 where they are split.
struct ByteDotSum {
  static constexpr int most_quads(int most) {
    return most < 128 ? 8 : 0;
  }
  static constexpr int kRegisters = 1;

  Ints sum;

  HWY_INLINE ByteDotSum() {}
  HWY_INLINE void start(Ints before) {
    sum = before;
  }
  HWY_INLINE void add(Words codes, Words x) {
#ifdef __ARM_FEATURE_DOTPROD
    sum.raw = vdotq_s32(
        sum.raw, vreinterpretq_s8_u32(codes.raw), vreinterpretq_s8_u32(x.raw));
#else
    asm(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
        : "+w"(sum.raw)
        : "w"(codes.raw), "w"(x.raw));
#endif
  }
  HWY_INLINE Ints finish(Ints) const {
    return sum;
  }
};
#else
#define MLX_FLASH_HAVE_BYTE_DOT 0
#endif

// Codes larger than `Sum` takes, as two: code = 16 * high + low.
template <class Sum>
struct SplitSum {
  static constexpr int most_quads(int) {
    return Sum::most_quads(15);
  }
  static constexpr int kRegisters = 2 * Sum::kRegisters;

  Sum low;
  Sum high;

  HWY_INLINE SplitSum() {}
  HWY_INLINE void start(Ints) {
    low.start(hn::Zero(kInts));
    high.start(hn::Zero(kInts));
  }
  HWY_INLINE void add(Words codes, Words x) {
    const Words mask = hn::Set(kWords, 0x0F0F0F0F);
    low.add(hn::And(codes, mask), x);
    high.add(hn::And(hn::ShiftRight<4>(codes), mask), x);
  }
  HWY_INLINE Ints finish(Ints before) const {
    const Ints zero = hn::Zero(kInts);
    const Ints highs = hn::ShiftLeft<4>(high.finish(zero));
    return hn::Add(before, hn::Add(low.finish(zero), highs));
  }
};

template <class Sum, bool kFits>
struct SumFor {
  using Type = Sum;
};
template <class Sum>
struct SumFor<Sum, false> {
  using Type = SplitSum<Sum>;
};

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
