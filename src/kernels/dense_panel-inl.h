// Many rows of x with a tile of dense weights, in the order of operations of
// dense_product-inl.h. Each lane is another output here, and all rows of x
// share a panel of unpacked weights.

#if defined(MLX_FLASH_KERNELS_DENSE_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_DENSE_PANEL_INL_H_
#undef MLX_FLASH_KERNELS_DENSE_PANEL_INL_H_
#else
#define MLX_FLASH_KERNELS_DENSE_PANEL_INL_H_
#endif

#include <algorithm>

#include "kernels/dense_product-inl.h"
#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// `length` columns for each partial sum, [kSumLanes, length, kTile], zeros
// where the row has ended. Partial sums are a column apart, so that they do not
// meet in the same set of the cache.
struct DensePanel {
  const float* weights;
  int64_t first; // column
  int64_t columns;
  int64_t length;

  static constexpr int64_t stride(int64_t length) {
    return (length + 1) * kTile;
  }
};
static_assert(
    kDensePanelColumns * kTile ==
    kSumLanes * DensePanel::stride(kSliceColumns / kSumLanes));

// The panel of columns `first` to `end`.
template <class Weights>
HWY_INLINE DensePanel unpack_dense_panel(
    const TileRows& rows,
    int64_t first,
    int64_t end,
    float* HWY_RESTRICT panel) {
  static_assert(kSumLanes % Weights::kPeriod == 0);
  const int64_t columns = end - first;
  const int64_t length = (columns + kSumLanes - 1) / kSumLanes;
  const int64_t stride = DensePanel::stride(length);
  if (columns % kSumLanes != 0) {
    std::fill_n(panel, kSumLanes * stride, 0.0f);
  }
  HWY_ALIGN uint32_t stage[kStageWords * kTile];
  for (int64_t s = 0; s < columns; s += kBlock) {
    const int64_t n = std::min(kBlock, columns - s);
    stage_weights<Weights>(rows, first + s, n, stage);
    for (int64_t i = 0; i < n; i += Weights::kPeriod) {
      const uint32_t* words = stage + i * Weights::kBits / 32 * kTile;
      const int64_t c = s + i;
      float* to = panel + c % kSumLanes * stride + c / kSumLanes * kTile;
      for (int64_t v = 0; v < kTile; v += kLanes) {
        unpack_period<Weights, 0>(words + v, stride, to + v);
      }
    }
  }
  return {panel, first, columns, length};
}

// sum = partial sum `lane` of the panel's columns, for outputs `i` of the tile
// and up.
template <int kRows, int kColumns>
HWY_INLINE void sum_lane(
    const float* const (&x)[kRows],
    const DensePanel& panel,
    int64_t lane,
    int64_t i,
    Floats (&sum)[kRows][kColumns]) {
  const float* HWY_RESTRICT weights =
      panel.weights + lane * DensePanel::stride(panel.length) + i;
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      sum[r][v] = hn::Zero(kFloats);
    }
  }
  HWY_UNROLL(4)
  for (int64_t k = 0; k < panel.length; ++k) {
    Floats w[kColumns];
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      w[v] = hn::Load(kFloats, weights + k * kTile + v * kLanes);
    }
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = hn::Set(kFloats, x[r][k * kSumLanes + lane]);
      HWY_UNROLL(8)
      for (int v = 0; v < kColumns; ++v) {
        sum[r][v] = hn::MulAdd(w[v], factor, sum[r][v]);
      }
    }
  }
}

// sum += from, [kRows, kColumns] vectors.
template <int kRows, int kColumns>
HWY_INLINE void add_to_sum(
    const float* HWY_RESTRICT from,
    Floats (&sum)[kRows][kColumns]) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      const float* at = from + (r * kColumns + v) * kLanes;
      sum[r][v] = hn::Add(hn::Load(kFloats, at), sum[r][v]);
    }
  }
}

template <int kRows, int kColumns>
HWY_INLINE void store_sum(
    const Floats (&sum)[kRows][kColumns],
    float* HWY_RESTRICT to) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      hn::Store(sum[r][v], kFloats, to + (r * kColumns + v) * kLanes);
    }
  }
}

// Adds the panel's part to `out`, [kRows, kTile], from output `i` on. As in
// add_lanes(), sums are added up in pairs: level[n] holds a sum of 2^n partial
// sums until the other half of its pair is there.
template <int kRows, int kColumns>
HWY_INLINE void add_all_lanes(
    const float* const (&x)[kRows],
    const DensePanel& panel,
    int64_t i,
    float* HWY_RESTRICT out) {
  constexpr int64_t kOrder[kSumLanes] = {
      0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
  constexpr int64_t kSumFloats = kRows * kColumns * kLanes;
  HWY_ALIGN float level[4 * kSumFloats];
  Floats sum[kRows][kColumns];
  for (int64_t n = 0; n < kSumLanes; ++n) {
    sum_lane<kRows, kColumns>(x, panel, kOrder[n], i, sum);
    float* at = level;
    for (int64_t pairs = n; pairs % 2 == 1; pairs /= 2) {
      add_to_sum<kRows, kColumns>(at, sum);
      at += kSumFloats;
    }
    if (n + 1 < kSumLanes) {
      store_sum<kRows, kColumns>(sum, at);
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      float* total = out + r * kTile + i + v * kLanes;
      hn::StoreU(hn::Add(hn::LoadU(kFloats, total), sum[r][v]), kFloats, total);
    }
  }
}

// Adds the panel's part to the totals of task rows `row` .. row + kRows - 1.
template <int kRows>
HWY_NOINLINE void
add_dense_panel(const ProductTask& task, const DensePanel& panel, int64_t row) {
  constexpr int kColumns = columns_at_once<kRows>();
  const int64_t padded_columns = panel.length * kSumLanes;
  HWY_ALIGN float padded[kRows][kSliceColumns];
  const float* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = task.x[row + r] + panel.first;
    if (panel.columns < padded_columns) {
      float* end = std::copy_n(x[r], panel.columns, padded[r]);
      std::fill(end, padded[r] + padded_columns, 0.0f);
      x[r] = padded[r];
    }
  }
  for (int64_t i = 0; i < kTile; i += kColumns * kLanes) {
    add_all_lanes<kRows, kColumns>(x, panel, i, task.out + row * kTile);
  }
}

template <class Weights>
HWY_INLINE void multiply_many_rows(
    const ProductTask& task,
    const TileRows& rows) {
  std::fill_n(task.out, task.rows * kTile, 0.0f);
  const int64_t in = task.w->in;
  for (int64_t c = 0; c < in; c += kSliceColumns) {
    const int64_t end = std::min(c + kSliceColumns, in);
    const DensePanel panel =
        unpack_dense_panel<Weights>(rows, c, end, task.memory);
    for (int64_t row = 0; row < task.rows; row += kMaxRows) {
      const int64_t count = std::min<int64_t>(kMaxRows, task.rows - row);
      for_row_count<kMaxRows>(count, [&](auto n) HWY_ATTR {
        add_dense_panel<n()>(task, panel, row);
      });
    }
  }
}

template <class Number, class Weights>
HWY_NOINLINE void multiply_dense(const ProductTask& task) {
  // Up to so many rows it is cheaper to go through the tile several times than
  // to unpack a panel.
  constexpr int64_t kFew = (kSumParts == 1 ? 6 : 2) * kFewRows;
  const Matrix& w = *task.w;
  const TileRows rows(w.weight, row_bytes(w), task.first, w.out);
  if (task.rows == 1) {
    multiply_dense_row<Number>(task, rows);
  } else if (task.rows <= kFew) {
    multiply_few_rows<Number>(task, rows);
  } else {
    multiply_many_rows<Weights>(task, rows);
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
