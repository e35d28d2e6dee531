// Weights from memory into registers, one SIMD lane per row of W.
//
// A tile is kTile consecutive rows of W. Its bytes are read 16 at a time from
// each row and transposed, so that a vector holds the same 32-bit word of
// kLanes rows ("staged" words). In that form every type is unpacked alike:
// kBlock weights of a row are exactly `bits` words, and shifts and masks known
// at compile time take weight j out of them, for any number of bits.
//
// Nothing is read past the end of an array: of the last rows' scales only what
// ProductTask says is readable, of weights nothing past the end of a row.

#if defined(MLX_FLASH_KERNELS_WEIGHTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_WEIGHTS_INL_H_
#undef MLX_FLASH_KERNELS_WEIGHTS_INL_H_
#else
#define MLX_FLASH_KERNELS_WEIGHTS_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "kernels/e2m1.h"
#include "kernels/product.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Vectors of rows in a tile: enough independent sums to keep the multipliers
// busy, few enough that sums, words and operands fit the registers.
inline constexpr int64_t kVectors = kLanes == 16 ? 2 : 4;
inline constexpr int64_t kTile = kVectors * kLanes;

// The most staged words of a row: a cache line of weights, and one block of
// any type.
inline constexpr int64_t kStageWords = 32;

// The rows of a tile in one of a matrix's arrays. Rows past the end of the
// matrix are its last row again; their results are not used.
struct TileRows {
  const uint8_t* row[kTile];
  int64_t bytes; // of a row
  int64_t readable; // from the start of any of them

  HWY_INLINE TileRows(
      const std::byte* base,
      int64_t row_bytes,
      int64_t first,
      int64_t rows)
      : bytes(row_bytes),
        readable(std::max((rows - first - kTile + 1) * row_bytes, row_bytes)) {
    const auto* start = reinterpret_cast<const uint8_t*>(base);
    for (int64_t i = 0; i < kTile; ++i) {
      row[i] = start + std::min(first + i, rows - 1) * row_bytes;
    }
  }

  // Fetches the byte at `offset` of row `i` into the cache; harmless where
  // there is none.
  HWY_INLINE void prefetch(int64_t i, int64_t offset) const {
    prefetch_ahead(row[i], offset);
  }
};

// The bytes from `offset` up of one row, at most 16, then zeros.
HWY_INLINE void
copy_row_end(const uint8_t* row, int64_t bytes, int64_t offset, uint32_t* out) {
  std::memset(out, 0, 16);
  std::memcpy(out, row + offset, std::min<int64_t>(16, bytes - offset));
}

#if HWY_TARGET != HWY_SCALAR
// 16 bytes of each of rows[0], rows[4], rows[8], ... in one vector.
HWY_INLINE Words load_row_blocks(const uint8_t* const* rows, int64_t offset) {
  const hn::CappedTag<uint8_t, 16> block;
  const auto load = [&](int i) HWY_ATTR {
    return hn::LoadU(block, rows[4 * i] + offset);
  };
#if HWY_MAX_BYTES >= 64
  const hn::Repartition<uint8_t, WordTag> bytes;
  const hn::Half<decltype(bytes)> half;
  return hn::BitCast(
      kWords,
      hn::Combine(
          bytes,
          hn::Combine(half, load(3), load(2)),
          hn::Combine(half, load(1), load(0))));
#elif HWY_MAX_BYTES >= 32
  const hn::Repartition<uint8_t, WordTag> bytes;
  return hn::BitCast(kWords, hn::Combine(bytes, load(1), load(0)));
#else
  return hn::BitCast(kWords, load(0));
#endif
}
#endif

// out[w * kTile + i] = word w, of the four at `offset`, of rows[i] for i below
// kLanes.
HWY_INLINE void transpose_words(
    const uint8_t* const* rows,
    int64_t bytes,
    int64_t offset,
    uint32_t* HWY_RESTRICT out) {
#if HWY_TARGET != HWY_SCALAR
  if (offset + 16 <= bytes) {
    const Words a = load_row_blocks(rows, offset);
    const Words b = load_row_blocks(rows + 1, offset);
    const Words c = load_row_blocks(rows + 2, offset);
    const Words d = load_row_blocks(rows + 3, offset);
    const hn::RepartitionToWide<WordTag> pairs;
    const auto ab = hn::BitCast(pairs, hn::InterleaveLower(kWords, a, b));
    const auto cd = hn::BitCast(pairs, hn::InterleaveLower(kWords, c, d));
    const auto ef = hn::BitCast(pairs, hn::InterleaveUpper(kWords, a, b));
    const auto gh = hn::BitCast(pairs, hn::InterleaveUpper(kWords, c, d));
    const auto store = [&](auto v, int w) HWY_ATTR {
      hn::Store(hn::BitCast(kWords, v), kWords, out + w * kTile);
    };
    store(hn::InterleaveLower(pairs, ab, cd), 0);
    store(hn::InterleaveUpper(pairs, ab, cd), 1);
    store(hn::InterleaveLower(pairs, ef, gh), 2);
    store(hn::InterleaveUpper(pairs, ef, gh), 3);
    return;
  }
#endif
  for (int64_t i = 0; i < kLanes; ++i) {
    uint32_t words[4];
    copy_row_end(rows[i], bytes, offset, words);
    for (int64_t w = 0; w < 4; ++w) {
      out[w * kTile + i] = words[w];
    }
  }
}

// Stages `count` words of each row, from byte `offset` of the rows up.
inline HWY_NOINLINE void stage_words(
    const TileRows& rows,
    int64_t offset,
    int64_t count,
    uint32_t* HWY_RESTRICT stage) {
  for (int64_t v = 0; v < kVectors; ++v) {
    for (int64_t w = 0; w < count; w += 4) {
      transpose_words(
          rows.row + v * kLanes,
          rows.bytes,
          offset + 4 * w,
          stage + w * kTile + v * kLanes);
    }
  }
}

HWY_INLINE Floats float_from_low_half(Words w) {
  const hn::Rebind<uint16_t, WordTag> halves;
  const hn::Rebind<hwy::float16_t, FloatTag> half_floats;
  const Words low = hn::And(w, hn::Set(kWords, 0xFFFF));
  return hn::PromoteTo(
      kFloats,
      hn::BitCast(half_floats, hn::DemoteTo(halves, hn::BitCast(kInts, low))));
}

HWY_INLINE Words staged(const uint32_t* HWY_RESTRICT words, int64_t word) {
  return hn::Load(kWords, words + word * kTile);
}

// The weight types. kPeriod weights are whole words, and unpacked by straight
// code: `weight<j>(words)` is weight j of the period whose first staged word is
// at `words`. kStageBlocks blocks are staged together. Quantised types
// without kDirect are unpacked into a panel even for one row of x.
struct F32Weights {
  static constexpr int kBits = 32;
  static constexpr int kPeriod = 4;
  static constexpr int64_t kStageBlocks = 1;

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
    return hn::BitCast(kFloats, staged(words, j));
  }
};

struct Bf16Weights {
  static constexpr int kBits = 16;
  static constexpr int kPeriod = 8;
  static constexpr int64_t kStageBlocks = 1;

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
    const Words w = staged(words, j / 2);
    return hn::BitCast(
        kFloats,
        j % 2 == 0 ? hn::ShiftLeft<16>(w)
                   : hn::And(w, hn::Set(kWords, 0xFFFF0000u)));
  }
};

struct F16Weights {
  static constexpr int kBits = 16;
  static constexpr int kPeriod = 8;
  static constexpr int64_t kStageBlocks = 1;

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
    const Words w = staged(words, j / 2);
    return float_from_low_half(j % 2 == 0 ? w : hn::ShiftRight<16>(w));
  }
};

template <int bits>
struct AffineWeights {
  static constexpr int kBits = bits;
  static constexpr int kPeriod = bits % 2 == 1 ? 32
      : bits == 4 || bits == 8                 ? 8
                                               : 16;
  static constexpr bool kDirect = bits == 4 || bits == 8;
  static constexpr int64_t kStageBlocks = 4;

  // The integer of weight j.
  template <int j>
  static HWY_INLINE Words code(const uint32_t* HWY_RESTRICT words) {
    constexpr int kWord = j * bits / 32;
    constexpr int kShift = j * bits % 32;
    Words q = staged(words, kWord);
    if constexpr (kShift > 0) {
      q = hn::ShiftRight<kShift>(q);
    }
    if constexpr (kShift + bits > 32) {
      q = hn::Or(q, hn::ShiftLeft<32 - kShift>(staged(words, kWord + 1)));
    }
    if constexpr (kShift + bits != 32) {
      q = hn::And(q, hn::Set(kWords, (1u << bits) - 1));
    }
    return q;
  }

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
    return hn::ConvertTo(kFloats, hn::BitCast(kInts, code<j>(words)));
  }
};

#if HWY_TARGET != HWY_SCALAR
// table[i] for the numbers i below 16 in the bytes of v.
template <typename T>
HWY_INLINE Words look_up_bytes(const std::array<T, 16>& table, Words v) {
  const hn::Repartition<T, WordTag> bytes;
  return hn::BitCast(
      kWords,
      hn::TableLookupBytes(
          hn::LoadDup128(bytes, table.data()), hn::BitCast(bytes, v)));
}
#endif

// Weights are twice the numbers of the codes: small integers.
struct Mxfp4Weights {
  static constexpr int kBits = 4;
  static constexpr int kPeriod = 8;
  static constexpr bool kDirect = true;
  static constexpr int64_t kStageBlocks = 4;

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
#if HWY_TARGET == HWY_SCALAR
    const uint32_t code = hn::GetLane(staged(words, 0)) >> (4 * j) & 15;
    return hn::Set(kFloats, kTwiceE2m1[code]);
#elif HWY_MAX_BYTES >= 64
    HWY_ALIGN static constexpr auto kTable = e2m1_table<float>(0);
    const Words codes = AffineWeights<4>::code<j>(words);
    return hn::TableLookupLanes(
        hn::Load(kFloats, kTable.data()), hn::IndicesFromVec(kFloats, codes));
#else
    HWY_ALIGN static constexpr auto kTable = e2m1_table<int8_t>(0);
    // A byte has two codes; its lower half is the earlier one.
    const Words w = staged(words, 0);
    const Words codes = hn::And(
        j % 2 == 0 ? w : hn::ShiftRight<4>(w), hn::Set(kWords, 0x0F0F0F0F));
    const auto bytes = hn::BitCast(kInts, look_up_bytes(kTable, codes));
    return hn::ConvertTo(
        kFloats, hn::ShiftRight<24>(hn::ShiftLeft<24 - j / 2 * 8>(bytes)));
#endif
  }
};

// Half of E8M0 scales, for weights that are doubled.
struct E8m0Halves {
  static constexpr int kBits = 8;

  template <int j>
  static HWY_INLINE Floats weight(const uint32_t* HWY_RESTRICT words) {
    // The byte where a float has its exponent.
    constexpr int kLeft = 23 - j % 4 * 8;
    const Words word = staged(words, j / 4);
    Words bits;
    if constexpr (kLeft < 0) {
      bits = hn::ShiftRight<-kLeft>(word);
    } else {
      bits = hn::ShiftLeft<kLeft>(word);
    }
    bits = hn::And(bits, hn::Set(kWords, 0x7F800000));
    // 2^-127, for 0, is below the smallest normal number.
    const Floats scale =
        hn::BitCast(kFloats, hn::Max(bits, hn::Set(kWords, 0x00400000)));
    // scale - scale / 2: NaN for 255, which is infinity here.
    return hn::NegMulAdd(scale, hn::Set(kFloats, 0.5f), scale);
  }
};

// Stages up to kStageBlocks blocks, `n` weights in all, from weight `first`.
template <class Weights>
HWY_INLINE void stage_weights(
    const TileRows& rows,
    int64_t first,
    int64_t n,
    uint32_t* HWY_RESTRICT stage) {
  static_assert(Weights::kStageBlocks * Weights::kBits <= kStageWords);
  stage_words(
      rows, first * Weights::kBits / 8, (n * Weights::kBits + 31) / 32, stage);
}

// out[j * stride] and up = scale j of kLanes rows, for j, j + 1, ... of the 16
// bytes staged at `words`.
template <class Scales, int j>
HWY_INLINE void unpack_16_bytes(
    const uint32_t* HWY_RESTRICT words,
    int64_t stride,
    float* HWY_RESTRICT out) {
  if constexpr (j * Scales::kBits < 128) {
    hn::Store(Scales::template weight<j>(words), kFloats, out + j * stride);
    unpack_16_bytes<Scales, j + 1>(words, stride, out);
  }
}

// Scales or biases of kLanes rows as floats: out[g * stride + i] is group
// first + g's of row i, for g below unit_groups(); those past the end of a row
// mean nothing. `readable` bytes from the start of each row may be read.
template <class Scales>
HWY_INLINE void unpack_unit(
    const uint8_t* const* rows,
    int64_t readable,
    int64_t first,
    int64_t stride,
    float* HWY_RESTRICT out) {
  constexpr int64_t kGroups = 128 / Scales::kBits;
  for (int64_t g = 0; g < std::max(kUnitGroups, kGroups); g += kGroups) {
    const int64_t at = (first + g) * Scales::kBits / 8;
    if (at >= readable) {
      return;
    }
    HWY_ALIGN uint32_t words[4 * kTile]; // of which kLanes columns are used
    transpose_words(rows, readable, at, words);
    unpack_16_bytes<Scales, 0>(words, stride, out + g * stride);
  }
}

inline HWY_NOINLINE void unpack_unit(
    ScaleType type,
    const uint8_t* const* rows,
    int64_t readable,
    int64_t first,
    int64_t stride,
    float* HWY_RESTRICT out) {
  switch (type) {
    case ScaleType::f32:
      return unpack_unit<F32Weights>(rows, readable, first, stride, out);
    case ScaleType::f16:
      return unpack_unit<F16Weights>(rows, readable, first, stride, out);
    case ScaleType::bf16:
      return unpack_unit<Bf16Weights>(rows, readable, first, stride, out);
    case ScaleType::e8m0:
      return unpack_unit<E8m0Halves>(rows, readable, first, stride, out);
  }
}

// The same of a whole tile: out[g * kTile + i], for `groups` rounded up to
// whole units.
inline HWY_NOINLINE void unpack_scales(
    ScaleType type,
    const TileRows& rows,
    int64_t groups,
    float* HWY_RESTRICT out) {
  for (int64_t g = 0; g < groups; g += unit_groups(type)) {
    for (int64_t v = 0; v < kTile; v += kLanes) {
      unpack_unit(
          type, rows.row + v, rows.readable, g, kTile, out + g * kTile + v);
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
