// Quantised weights as bytes. A quad is a vector whose 32-bit lanes hold four
// codes of one row each; a block of 32 weights is eight quads. Which columns
// meet in a quad is what is cheap to unpack: four neighbours, or with 4 bits
// the low and the high halves of four bytes in turn (kernels/column_order.h).

#if defined(MLX_FLASH_KERNELS_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_CODES_INL_H_
#undef MLX_FLASH_KERNELS_CODES_INL_H_
#else
#define MLX_FLASH_KERNELS_CODES_INL_H_
#endif

#include "kernels/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

inline constexpr int kQuads = kBlock / 4;

// quad<q>(words): quad q of the block whose first staged word is at `words`.
// Bytes are at most kMost, and stand for what is kOffset less.
template <int bits>
struct Codes {
  static constexpr int kBits = bits;
  static constexpr int kMost = (1 << bits) - 1;
  static constexpr int kOffset = 0;
  static constexpr bool kAffine = true;

  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    using Weights = AffineWeights<bits>;
    Words codes = Weights::template code<4 * q>(words);
    codes = hn::Or(
        codes, hn::ShiftLeft<8>(Weights::template code<4 * q + 1>(words)));
    codes = hn::Or(
        codes, hn::ShiftLeft<16>(Weights::template code<4 * q + 2>(words)));
    return hn::Or(
        codes, hn::ShiftLeft<24>(Weights::template code<4 * q + 3>(words)));
  }
};

template <>
struct Codes<8> {
  static constexpr int kBits = 8;
  static constexpr int kMost = 255;
  static constexpr int kOffset = 0;
  static constexpr bool kAffine = true;

  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    return staged(words, q);
  }
};

template <>
struct Codes<4> {
  static constexpr int kBits = 4;
  static constexpr int kMost = 15;
  static constexpr int kOffset = 0;
  static constexpr bool kAffine = true;

  // The low or the high halves of the bytes of w.
  template <bool kHigh>
  static HWY_INLINE Words plane(Words w) {
    return hn::And(
        kHigh ? hn::ShiftRight<4>(w) : w, hn::Set(kWords, 0x0F0F0F0F));
  }
  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    return plane<(q % 2 == 1)>(staged(words, q / 2));
  }
};

// Twice the numbers of the codes.
struct Mxfp4Codes {
  static constexpr int kBits = 4;
  static constexpr int kMost = 2 * kE2m1Offset;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr bool kAffine = false;

  template <bool kHigh>
  static HWY_INLINE Words plane(Words w) {
    HWY_ALIGN static constexpr auto kTable = e2m1_table<uint8_t>(kOffset);
    const Words codes = Codes<4>::plane<kHigh>(w);
#if HWY_TARGET == HWY_SCALAR
    uint32_t bytes = 0;
    for (int shift = 0; shift < 32; shift += 8) {
      bytes |= static_cast<uint32_t>(kTable[hn::GetLane(codes) >> shift & 15])
          << shift;
    }
    return hn::Set(kWords, bytes);
#else
    return look_up_bytes(kTable, codes);
#endif
  }
  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    return plane<(q % 2 == 1)>(staged(words, q / 2));
  }
};

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
