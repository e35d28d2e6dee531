// The matrix product of one tile of W and some rows of x, for weights that are
// numbers: f32, f16 and bf16.
//
// The order of operations for each output:
//   total = 0
//   for each slice of kSliceColumns columns, in order:
//     kSumLanes partial sums, column c in sum c % kSumLanes, in order:
//       sum = weight * x + sum                            (fused where it is)
//     total = total + the partial sums, added up as add_lanes() does
// Columns past the end of a row, up to a multiple of kSumLanes, are zeros.
//
// So a vector may cover columns, and rows of W are read as they lie in memory:
// what one row of x wants, or a few. For many rows see dense_panel-inl.h.

#if defined(MLX_FLASH_KERNELS_DENSE_PRODUCT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_DENSE_PRODUCT_INL_H_
#undef MLX_FLASH_KERNELS_DENSE_PRODUCT_INL_H_
#else
#define MLX_FLASH_KERNELS_DENSE_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "kernels/product.h"
#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// kLanes numbers of a row of W, of any alignment, as floats.
template <class Number>
HWY_INLINE Floats load_numbers(const uint8_t* HWY_RESTRICT from) {
  const hn::Rebind<Number, FloatTag> tag;
#if HWY_TARGET == HWY_SCALAR
  Number number;
  std::memcpy(&number, from, sizeof(number));
  const auto numbers = hn::Set(tag, number);
#else
  const hn::Repartition<uint8_t, decltype(tag)> bytes;
  const auto numbers = hn::BitCast(tag, hn::LoadU(bytes, from));
#endif
  if constexpr (sizeof(Number) == 4) {
    return numbers;
  } else {
    return hn::PromoteTo(kFloats, numbers);
  }
}

// The partial sums of kRows rows of x with kOutputs rows of W.
template <class Number, int kRows, int kOutputs>
struct DenseSums {
  Floats sum[kRows][kOutputs][kSumParts];

  HWY_INLINE DenseSums() {
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(4)
      for (int o = 0; o < kOutputs; ++o) {
        HWY_UNROLL(4)
        for (int64_t p = 0; p < kSumParts; ++p) {
          sum[r][o][p] = hn::Zero(kFloats);
        }
      }
    }
  }

  // Columns c .. c + kSumLanes - 1.
  HWY_INLINE void
  add(const float* const* x, const uint8_t* const* w, int64_t c) {
    HWY_UNROLL(4)
    for (int64_t p = 0; p < kSumParts; ++p) {
      const int64_t at = c + p * kLanes;
      Floats weights[kOutputs];
      HWY_UNROLL(4)
      for (int o = 0; o < kOutputs; ++o) {
        weights[o] = load_numbers<Number>(w[o] + at * sizeof(Number));
      }
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        const Floats factors = hn::LoadU(kFloats, x[r] + at);
        HWY_UNROLL(4)
        for (int o = 0; o < kOutputs; ++o) {
          sum[r][o][p] = hn::MulAdd(weights[o], factors, sum[r][o][p]);
        }
      }
    }
  }

  // Columns c .. end - 1, fewer than kSumLanes.
  HWY_INLINE void add_last(
      const float* const* x,
      const uint8_t* const* w,
      int64_t c,
      int64_t end) {
    float x_copy[kRows][kSumLanes] = {};
    uint8_t w_copy[kOutputs][kSumLanes * sizeof(Number)] = {};
    const float* x_last[kRows];
    const uint8_t* w_last[kOutputs];
    const auto n = static_cast<size_t>(end - c);
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(x_copy[r], x[r] + c, n * sizeof(float));
      x_last[r] = x_copy[r];
    }
    for (int o = 0; o < kOutputs; ++o) {
      std::memcpy(w_copy[o], w[o] + c * sizeof(Number), n * sizeof(Number));
      w_last[o] = w_copy[o];
    }
    add(x_last, w_last, 0);
  }
};

#if HWY_TARGET != HWY_SCALAR
// Adds four lanes and four lanes, by halves, and the four to out[0] .. [n - 1].
template <class Tag>
HWY_INLINE void add_fours(Tag tag, hn::Vec<Tag> v, int n, float* out) {
  if constexpr (hn::MaxLanes(tag) > 4) {
    const hn::Half<Tag> half;
    add_fours(
        half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), n, out);
  } else {
    HWY_ALIGN float lanes[4];
    hn::Store(v, tag, lanes);
    for (int i = 0; i < n; ++i) {
      out[i] += lanes[i];
    }
  }
}
#endif

// out[o] += the partial sums of output o: of each four lanes the first and the
// third, the second and the fourth, and these two; then the fours, by halves.
template <int kOutputs>
HWY_INLINE void add_lanes(
    const Floats (&sum)[kOutputs][kSumParts],
    float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_SCALAR
  for (int o = 0; o < kOutputs; ++o) {
    float fours[4];
    for (int64_t i = 0; i < 4; ++i) {
      const Floats* lane = sum[o] + 4 * i;
      fours[i] = (hn::GetLane(lane[0]) + hn::GetLane(lane[2])) +
          (hn::GetLane(lane[1]) + hn::GetLane(lane[3]));
    }
    out[o] += (fours[0] + fours[2]) + (fours[1] + fours[3]);
  }
#else
  static_assert(kOutputs <= 4);
  const hn::Repartition<uint64_t, FloatTag> pairs;
  const auto add_halves = [](Floats a, Floats b) HWY_ATTR {
    return hn::Add(
        hn::InterleaveLower(kFloats, a, b), hn::InterleaveUpper(kFloats, a, b));
  };
  // Lane o of each four is output o's.
  Floats fours[kSumParts];
  HWY_UNROLL(4)
  for (int64_t p = 0; p < kSumParts; ++p) {
    const auto part = [&](int o) HWY_ATTR { return sum[o % kOutputs][p]; };
    const auto ab = hn::BitCast(pairs, add_halves(part(0), part(1)));
    const auto cd = hn::BitCast(pairs, add_halves(part(2), part(3)));
    fours[p] = hn::Add(
        hn::BitCast(kFloats, hn::InterleaveLower(pairs, ab, cd)),
        hn::BitCast(kFloats, hn::InterleaveUpper(pairs, ab, cd)));
  }
  for (int64_t half = kSumParts / 2; half > 0; half /= 2) {
    for (int64_t p = 0; p < half; ++p) {
      fours[p] = hn::Add(fours[p], fours[p + half]);
    }
  }
  add_fours(kFloats, fours[0], kOutputs, out);
#endif
}

// One row of x ---------------------------------------------------------------

// Rows of W that are read side by side, each the start of a run of them: the
// processor fetches such streams ahead by itself.
inline constexpr int kDenseStreams = kRegisters == 16 && kSumParts == 4 ? 2 : 4;
inline constexpr int64_t kDenseRunRows = kTile / kDenseStreams;

// One row of each run.
template <class Number>
class DenseStreams {
 public:
  // Row `i` of the runs.
  HWY_INLINE DenseStreams(const TileRows& rows, int64_t i)
      : bytes_(rows.bytes),
        // From the end of its run, a stream goes on in the tile behind.
        skip_(
            i + 1 < kDenseRunRows ? 0 : (kTile - kDenseRunRows) * rows.bytes) {
    for (int s = 0; s < kDenseStreams; ++s) {
      w_[s] = rows.row[s * kDenseRunRows + i];
    }
  }

  // totals[s] = the product of stream s's row, of `in` columns, with x.
  HWY_INLINE void multiply(const float* x, int64_t in, float* totals) const {
    std::fill_n(totals, kDenseStreams, 0.0f);
    for (int64_t c = 0; c < in; c += kSliceColumns) {
      const int64_t end = std::min(c + kSliceColumns, in);
      DenseSums<Number, 1, kDenseStreams> sums;
      int64_t at = c;
      for (; at + kLineColumns <= end; at += kLineColumns) {
        fetch_ahead(at * static_cast<int64_t>(sizeof(Number)));
        for (int64_t i = 0; i < kLineColumns; i += kSumLanes) {
          sums.add(&x, w_, at + i);
        }
      }
      for (; at + kSumLanes <= end; at += kSumLanes) {
        sums.add(&x, w_, at);
      }
      if (at < end) {
        sums.add_last(&x, w_, at, end);
      }
      add_lanes<kDenseStreams>(sums.sum[0], totals);
    }
  }

 private:
  static constexpr int64_t kLineColumns = 64 / sizeof(Number);

  // Where the streams will be 2 KiB further on: the processor's own fetching
  // ends with each page.
  HWY_INLINE void fetch_ahead(int64_t offset) const {
    constexpr int64_t kAhead = 2048;
    const int64_t ahead = offset + kAhead;
    const int64_t from_row = ahead < bytes_ ? ahead : ahead + skip_;
    for (int s = 0; s < kDenseStreams; ++s) {
      prefetch_ahead(w_[s], from_row);
    }
  }

  const int64_t bytes_;
  const int64_t skip_;
  const uint8_t* w_[kDenseStreams];
};

template <class Number>
HWY_INLINE void multiply_dense_row(
    const ProductTask& task,
    const TileRows& rows) {
  for (int64_t i = 0; i < kDenseRunRows; ++i) {
    float totals[kDenseStreams];
    DenseStreams<Number>(rows, i).multiply(task.x[0], task.w->in, totals);
    for (int s = 0; s < kDenseStreams; ++s) {
      task.out[s * kDenseRunRows + i] = totals[s];
    }
  }
}

// A few rows of x ------------------------------------------------------------

// Rows of W and of x that are multiplied at once: as many as the registers
// hold the sums of.
inline constexpr int kFewOutputs = kSumParts == 1 ? 4 : 2;
inline constexpr int kFewRows = std::clamp(
    (kRegisters - 4) / (kFewOutputs * static_cast<int>(kSumParts)),
    1,
    6);

// Adds columns `first` to `end` to the totals of task rows `row` .. row + kRows
// - 1.
template <class Number, int kRows>
HWY_NOINLINE void add_slice(
    const ProductTask& task,
    const TileRows& rows,
    int64_t first,
    int64_t end,
    int64_t row) {
  for (int64_t i = 0; i < kTile; i += kFewOutputs) {
    DenseSums<Number, kRows, kFewOutputs> sums;
    int64_t c = first;
    for (; c + kSumLanes <= end; c += kSumLanes) {
      sums.add(task.x + row, rows.row + i, c);
    }
    if (c < end) {
      sums.add_last(task.x + row, rows.row + i, c, end);
    }
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      add_lanes<kFewOutputs>(sums.sum[r], task.out + (row + r) * kTile + i);
    }
  }
}

template <class Number>
HWY_INLINE void multiply_few_rows(
    const ProductTask& task,
    const TileRows& rows) {
  std::fill_n(task.out, task.rows * kTile, 0.0f);
  const int64_t in = task.w->in;
  for (int64_t c = 0; c < in; c += kSliceColumns) {
    const int64_t end = std::min(c + kSliceColumns, in);
    for (int64_t row = 0; row < task.rows; row += kFewRows) {
      const int64_t count = std::min<int64_t>(kFewRows, task.rows - row);
      for_row_count<kFewRows>(count, [&](auto n) HWY_ATTR {
        add_slice<Number, n()>(task, rows, c, end, row);
      });
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
