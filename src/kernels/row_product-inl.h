// The product of one row of integers, or a few, with a tile of W of 4 or 8
// bits: the matrix-vector product of decoding, which is as fast as W arrives
// from memory.
//
// kLanes rows of W are read side by side, a vector of each in turn. Sums of
// what a vector covers are brought into one lane for each row at once, so that
// little is kept and work is even: the tile behind is fetched at the pace of
// the computation, and neither waits for the other. A few rows of x use a
// vector of W while it is in registers. The order of operations is that of
// integer_product-inl.h.

#if defined(MLX_FLASH_KERNELS_ROW_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_ROW_PRODUCT_INL_H_
#undef MLX_FLASH_KERNELS_ROW_PRODUCT_INL_H_
#else
#define MLX_FLASH_KERNELS_ROW_PRODUCT_INL_H_
#endif

#include "base/align.h"
#include "kernels/codes-inl.h"
#include "kernels/column_order.h"
#include "kernels/dot-inl.h"
#include "kernels/tile-inl.h"

#undef MLX_FLASH_HAVE_ROW_PRODUCT
#if HWY_TARGET == HWY_SCALAR
#define MLX_FLASH_HAVE_ROW_PRODUCT 0
#else
#define MLX_FLASH_HAVE_ROW_PRODUCT 1

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

inline constexpr int64_t kPieceBytes = 16;
inline constexpr int64_t kVectorBytes = kLanes * 4;
inline constexpr int64_t kPieces = kVectorBytes / kPieceBytes;
inline constexpr int64_t kLine = 64;

// How far ahead a row is brought from the second-level cache to the first.
inline constexpr int64_t kNear = 4 * kLine;

HWY_INLINE Words load_bytes(const void* from) {
  const hn::Repartition<uint8_t, WordTag> bytes;
  return hn::BitCast(
      kWords, hn::LoadU(bytes, static_cast<const uint8_t*>(from)));
}

// A vector's columns of x, and what its sums begin with, so that kOffset drops
// out of the codes.
template <class CodeType, class Sum>
struct VectorOfX {
  static constexpr int64_t kPlanes = CodeType::kBits == 4 ? 2 : 1;
  Words plane[kPlanes];
  Ints start;

  HWY_INLINE VectorOfX() {}

  // Columns of the bytes from `at` on of a row of W.
  HWY_INLINE void load(const int8_t* HWY_RESTRICT x, int64_t at) {
    const int64_t in_chunk = at % kChunkBytes;
    const int8_t* from = x + (at - in_chunk) * kPlanes + in_chunk;
    start = hn::Zero(kInts);
    for (int64_t p = 0; p < kPlanes; ++p) {
      plane[p] = load_bytes(from + p * kChunkBytes);
    }
    if constexpr (CodeType::kOffset > 0) {
      Sum sum;
      sum.start(start);
      for (const Words factors : plane) {
        sum.add(hn::Set(kWords, 0x01010101 * CodeType::kOffset), factors);
      }
      start = hn::Neg(sum.finish(start));
    }
  }
};

// The products of one vector of codes, added up in each lane. What it makes of
// the codes is made once for several rows of x.
template <class CodeType, class Sum>
HWY_INLINE Ints dot_vector(Words codes, const VectorOfX<CodeType, Sum>& x) {
  Sum sum;
  sum.start(x.start);
  if constexpr (CodeType::kBits == 4) {
    sum.add(CodeType::template plane<false>(codes), x.plane[0]);
    sum.add(CodeType::template plane<true>(codes), x.plane[1]);
  } else {
    static_assert(CodeType::kBits == 8);
    sum.add(codes, x.plane[0]);
  }
  return sum.finish(x.start);
}

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
// In each 16-byte block: a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3] of
// that block, where all fit 16 bits.
HWY_INLINE Ints add_neighbours(Ints a, Ints b) {
  const hn::Repartition<int16_t, IntTag> shorts;
  return Ints{PairSum::quads(hn::ReorderDemote2To(shorts, a, b).raw)};
}
#endif

// In each 16-byte block, lane j is the sum of the lanes of v[j]'s block, of
// which none is beyond +-kMost.
template <int64_t kMost>
HWY_INLINE Ints sum_blocks(const Ints (&v)[4]) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  if constexpr (2 * kMost < 32768) {
    // Two vectors as 16-bit lanes in one, and neighbours added: twice.
    return add_neighbours(
        add_neighbours(v[0], v[1]), add_neighbours(v[2], v[3]));
  }
#endif
  const hn::RepartitionToWide<IntTag> pairs;
  const auto add_halves = [](Ints a, Ints b) HWY_ATTR {
    return hn::Add(
        hn::InterleaveLower(kInts, a, b), hn::InterleaveUpper(kInts, a, b));
  };
  const auto ab = hn::BitCast(pairs, add_halves(v[0], v[1]));
  const auto cd = hn::BitCast(pairs, add_halves(v[2], v[3]));
  return hn::Add(
      hn::BitCast(kInts, hn::InterleaveLower(pairs, ab, cd)),
      hn::BitCast(kInts, hn::InterleaveUpper(pairs, ab, cd)));
}

// v[k]'s block p has piece p of rows 4 k .. 4 k + 3. sums[s] = the sum of
// pieces s * kSize .. (s + 1) * kSize - 1, row i in lane i.
template <int64_t kSize>
HWY_INLINE void sum_pieces(const Ints (&v)[kPieces], Ints* sums) {
  if constexpr (kPieces == 1) {
    sums[0] = v[0];
  } else if constexpr (kPieces == 2) {
    const Ints first = hn::ConcatLowerLower(kInts, v[1], v[0]);
    const Ints second = hn::ConcatUpperUpper(kInts, v[1], v[0]);
    if constexpr (kSize == 1) {
      sums[0] = first;
      sums[1] = second;
    } else {
      sums[0] = hn::Add(first, second);
    }
  } else {
    // Even and odd blocks of two vectors, then halves of two such pairs.
    Ints even[2];
    Ints odd[2];
    for (int64_t k = 0; k < 2; ++k) {
      const Ints a = v[2 * k];
      const Ints b = v[2 * k + 1];
      if constexpr (kSize == 1) {
        even[k] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a);
        odd[k] = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a));
      } else {
        const Ints crossed = hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b));
        even[k] = hn::Add(hn::OddEvenBlocks(b, a), crossed);
      }
    }
    const Ints first = hn::ConcatLowerLower(kInts, even[1], even[0]);
    const Ints third = hn::ConcatUpperUpper(kInts, even[1], even[0]);
    if constexpr (kSize == 1) {
      sums[0] = first;
      sums[1] = hn::ConcatLowerLower(kInts, odd[1], odd[0]);
      sums[2] = third;
      sums[3] = hn::ConcatUpperUpper(kInts, odd[1], odd[0]);
    } else if constexpr (kSize == 2) {
      sums[0] = first;
      sums[1] = third;
    } else {
      sums[0] = hn::Add(first, third);
    }
  }
}

// What of the tile behind is fetched while this one is multiplied, into the
// second-level cache, since the first does not hold a tile: an array's lines,
// in as many streams side by side, since memory gives several faster than one.
// Of no array, the same line over and over.
template <int64_t kStreams>
class LinesAhead {
 public:
  LinesAhead(const std::byte* from, int64_t bytes, const void* anything)
      : at_(reinterpret_cast<uintptr_t>(from ? from : anything)),
        step_(from ? kLine : 0),
        apart_(from ? round_down(bytes / kStreams, kLine) : 0) {}

  // The next line of each stream, so many times.
  HWY_INLINE void fetch(int64_t times = 1) {
    for (int64_t i = 0; i < times; ++i) {
      HWY_UNROLL(4)
      for (int64_t s = 0; s < kStreams; ++s) {
        prefetch<2>(at_ + s * apart_);
      }
      at_ += step_;
    }
  }

 private:
  uintptr_t at_;
  uintptr_t step_;
  uintptr_t apart_;
};

// Lines that a vector of each of kLanes rows takes.
inline constexpr int64_t kVectorLines = kLanes * kVectorBytes / kLine;
inline constexpr int64_t kWeightStreams = std::min<int64_t>(4, kVectorLines);
using WeightAhead = LinesAhead<kWeightStreams>;

struct TileAhead {
  WeightAhead weight;
  LinesAhead<1> scales;
  LinesAhead<1> biases;

  explicit TileAhead(const ProductTask& task)
      : weight(task.ahead.weight, kTile * row_bytes(*task.w), task.out),
        scales(task.ahead.scales, 0, task.out),
        biases(task.ahead.biases, 0, task.out) {}
};

// The sums of the vectors at byte `at` of kLanes rows of W and kRows of x:
// sums[r][s] of their pieces s * kSize and up.
template <class CodeType, int64_t kSize, class Sum, int kRows, int64_t kSums>
HWY_INLINE void sum_vectors(
    const uint8_t* const* rows,
    int64_t at,
    const VectorOfX<CodeType, Sum> (&x)[kRows],
    WeightAhead& ahead,
    Ints (&sums)[kRows][kSums]) {
  constexpr int64_t kMost = 4 * VectorOfX<CodeType, Sum>::kPlanes *
      (CodeType::kMost - CodeType::kOffset) * 127;
  Ints pieces[kRows][kPieces];
  HWY_UNROLL(4)
  for (int64_t k = 0; k < kPieces; ++k) {
    Words codes[4];
    HWY_UNROLL(4)
    for (int64_t j = 0; j < 4; ++j) {
      const uint8_t* row = rows[4 * k + j] + at;
      prefetch_ahead(row, kNear);
      codes[j] = load_bytes(row);
    }
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      Ints v[4];
      HWY_UNROLL(4)
      for (int64_t j = 0; j < 4; ++j) {
        v[j] = dot_vector<CodeType, Sum>(codes[j], x[r]);
      }
      pieces[r][k] = sum_blocks<kMost>(v);
    }
    if ((k + 1) * kVectorLines / kPieces % kWeightStreams == 0) {
      ahead.fetch();
    }
  }
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    sum_pieces<kSize>(pieces[r], sums[r]);
  }
}

// The ends of kLanes rows, shorter than a vector, with zeros behind.
struct RowEnds {
  HWY_ALIGN uint8_t copy[kLanes * kVectorBytes] = {};
  const uint8_t* row[kLanes];

  RowEnds(const uint8_t* const* rows, int64_t at, int64_t bytes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      uint8_t* to = copy + i * kVectorBytes;
      std::memcpy(to, rows[i] + at, static_cast<size_t>(bytes));
      row[i] = to;
    }
  }
};

// kLanes rows of the tile, times kRows rows of x.
template <class CodeType, int64_t kGroupPieces, class Sum, int kRows>
class RowsOfVector {
 public:
  RowsOfVector(
      const ProductTask& task,
      const TileRows& weight,
      const TileRows& scales,
      const TileRows& biases,
      int64_t first)
      : task_(task),
        rows_(weight.row + first),
        scales_(scales.row + first),
        biases_(biases.row + first),
        bytes_(weight.bytes),
        readable_(scales.readable) {}

  HWY_INLINE void multiply(TileAhead& ahead, Floats (&total)[kRows]) {
    const Matrix& w = *task_.w;
    const int64_t groups = groups_of(w);
    HWY_ALIGN float scales[kUnit * kLanes];
    HWY_ALIGN float biases[kUnit * kLanes];
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      total[r] = hn::Zero(kFloats);
    }
    for (int64_t unit = 0; unit < groups; unit += kUnit) {
      unpack_both(unit, scales, biases);
      ahead.scales.fetch(kVectorBytes / kPieceBytes);
      if constexpr (CodeType::kAffine) {
        ahead.biases.fetch(kVectorBytes / kPieceBytes);
      }
      const int64_t end = std::min(unit + kUnit, groups);
      for (int64_t group = unit; group < end; group += kGroups) {
        Ints sums[kRows][kGroups];
        sum_groups(group, ahead.weight, sums);
        HWY_UNROLL(4)
        for (int64_t s = 0; s < kGroups; ++s) {
          if (kGroups == 1 || group + s < end) {
            const int64_t i = (group - unit + s) * kLanes;
            HWY_UNROLL(4)
            for (int r = 0; r < kRows; ++r) {
              add(r, group + s, sums[r][s], scales + i, biases + i, total[r]);
            }
          }
        }
      }
    }
  }

 private:
  // Groups whose scales are unpacked at once.
  static constexpr int64_t kUnit =
      CodeType::kAffine ? kUnitGroups : unit_groups(ScaleType::e8m0);
  // Groups of a vector, and vectors of a group.
  static constexpr int64_t kGroups =
      std::max<int64_t>(1, kPieces / kGroupPieces);
  static constexpr int64_t kGroupVectors =
      std::max<int64_t>(1, kGroupPieces / kPieces);

  HWY_INLINE void unpack_both(int64_t first, float* scales, float* biases)
      const {
    if constexpr (!CodeType::kAffine) {
      unpack_unit<E8m0Halves>(scales_, readable_, first, kLanes, scales);
    } else {
      const ScaleType type = task_.w->scale_type;
      if (type == ScaleType::bf16) { // nearly always: inlined
        unpack_unit<Bf16Weights>(scales_, readable_, first, kLanes, scales);
        unpack_unit<Bf16Weights>(biases_, readable_, first, kLanes, biases);
      } else {
        unpack_unit(type, scales_, readable_, first, kLanes, scales);
        unpack_unit(type, biases_, readable_, first, kLanes, biases);
      }
    }
  }

  using Sums = Ints[kRows][kGroups];

  HWY_INLINE void sum_groups(int64_t group, WeightAhead& ahead, Sums& sums) {
    int64_t at = group * kGroupPieces * kPieceBytes;
    sum_at(at, ahead, sums);
    for (int64_t i = 1; i < kGroupVectors; ++i) {
      Sums more;
      at += kVectorBytes;
      sum_at(at, ahead, more);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = hn::Add(sums[r][0], more[r][0]);
      }
    }
  }

  HWY_INLINE void sum_at(int64_t at, WeightAhead& ahead, Sums& sums) {
    constexpr int64_t kSize = std::min(kPieces, kGroupPieces);
    VectorOfX<CodeType, Sum> x[kRows];
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      x[r].load(task_.integers[r], at);
    }
    if (at + kVectorBytes <= bytes_) {
      sum_vectors<CodeType, kSize, Sum>(rows_, at, x, ahead, sums);
    } else {
      const RowEnds ends(rows_, at, bytes_ - at);
      sum_vectors<CodeType, kSize, Sum>(ends.row, 0, x, ahead, sums);
    }
  }

  HWY_INLINE void add(
      int r,
      int64_t group,
      Ints sum,
      const float* scales,
      const float* biases,
      Floats& total) const {
    const float x_scale = task_.scales[r][group];
    const Floats scale =
        hn::Mul(hn::Load(kFloats, scales), hn::Set(kFloats, x_scale));
    total = hn::MulAdd(scale, hn::ConvertTo(kFloats, sum), total);
    if constexpr (CodeType::kAffine) {
      const Floats x_sum = hn::Set(kFloats, x_scale * task_.sums[r][group]);
      total = hn::MulAdd(hn::Load(kFloats, biases), x_sum, total);
    }
  }

  const ProductTask& task_;
  const uint8_t* const* rows_;
  const uint8_t* const* scales_;
  const uint8_t* const* biases_;
  const int64_t bytes_;
  const int64_t readable_;
};

template <class CodeType, int64_t kGroupPieces, class Sum, int kRows>
HWY_NOINLINE void multiply_few(const ProductTask& task) {
  const Matrix& w = *task.w;
  const TileRows rows(w.weight, row_bytes(w), task.first, w.out);
  const TileRows scales = scale_rows(task, w.scales);
  const TileRows biases =
      scale_rows(task, CodeType::kAffine ? w.biases : w.scales);
  TileAhead ahead(task);
  for (int64_t i = 0; i < kTile; i += kLanes) {
    RowsOfVector<CodeType, kGroupPieces, Sum, kRows> part(
        task, rows, scales, biases, i);
    Floats total[kRows];
    part.multiply(ahead, total);
    for (int r = 0; r < kRows; ++r) {
      hn::StoreU(total[r], kFloats, task.out + r * kTile + i);
    }
  }
}

// Rows of x that are faster this way than by way of a panel, and those that the
// registers hold the sums of.
inline constexpr int64_t kFewCodeRows = 12;
inline constexpr int kCodeRowsAtOnce = kRegisters == 32 ? 4 : 2;

// Rows `first` to `first + count` of x. The first ones fetch what is ahead.
inline ProductTask some_rows(ProductTask task, int64_t first, int64_t count) {
  task.rows = count;
  task.sums += first;
  task.integers += first;
  task.scales += first;
  task.out += first * kTile;
  if (first > 0) {
    task.ahead = {};
  }
  return task;
}

template <class CodeType, int64_t kGroupPieces, class Sum>
void multiply_few_rows(const ProductTask& task) {
  for_row_parts<kCodeRowsAtOnce>(task.rows, [&](auto n, int64_t row) HWY_ATTR {
    multiply_few<CodeType, kGroupPieces, Sum, n()>(some_rows(task, row, n()));
  });
}

template <class CodeType, class Sum>
void multiply_few_rows(const ProductTask& task) {
  constexpr int64_t kSmallest = 32 * CodeType::kBits / 8 / kPieceBytes;
  if constexpr (!CodeType::kAffine) {
    return multiply_few_rows<CodeType, kSmallest, Sum>(task);
  } else {
    switch (task.w->group_size) {
      case 32:
        return multiply_few_rows<CodeType, kSmallest, Sum>(task);
      case 64:
        return multiply_few_rows<CodeType, 2 * kSmallest, Sum>(task);
      case 128:
        return multiply_few_rows<CodeType, 4 * kSmallest, Sum>(task);
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif // HWY_TARGET
#endif
