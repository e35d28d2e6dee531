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
template <int bits>
struct Codes {
  static constexpr int kBits = bits;

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

  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    return staged(words, q);
  }
};

template <>
struct Codes<4> {
  static constexpr int kBits = 4;

  template <int q>
  static HWY_INLINE Words quad(const uint32_t* HWY_RESTRICT words) {
    const Words w = staged(words, q / 2);
    return hn::And(
        q % 2 == 0 ? w : hn::ShiftRight<4>(w), hn::Set(kWords, 0x0F0F0F0F));
  }
};

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
