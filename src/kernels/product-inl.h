// The matrix product of one tile of quantised W and some rows of x, in f32.
//
// The order of operations for each output is:
//   total = 0
//   for each block of kBlock columns, in order:
//     sum = 0; for each column: sum = weight * x + sum     (fused where it is)
//     total = scale * sum + total
//     affine, after the last block of a group:
//       total = bias * sum(x) + total
// where a weight of the affine type is its code; of mxfp4 it is twice the
// code's number, and the scale is half the scale.
// Each lane is another output, so neither the size of the vectors nor the
// other rows of W or x take part in it. Two ways of computing it follow:
// multiply_one() unpacks weights in registers and uses them once,
// multiply_rows() unpacks them into a panel that all rows of x use.

#if defined(MLX_FLASH_KERNELS_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_PRODUCT_INL_H_
#undef MLX_FLASH_KERNELS_PRODUCT_INL_H_
#else
#define MLX_FLASH_KERNELS_PRODUCT_INL_H_
#endif

#include <algorithm>

#include "kernels/panel-inl.h"
#include "kernels/product.h"
#include "kernels/tile-inl.h"
#include "kernels/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Rows of x that are multiplied at once.
inline constexpr int kMaxRows = 6;

// sum[v] = weight j * x[j] + sum[v] for j, j + 1, ... of a period.
template <class Weights, int j>
HWY_INLINE void add_products(
    const uint32_t* HWY_RESTRICT words,
    const float* HWY_RESTRICT x,
    Floats (&sum)[kVectors]) {
  if constexpr (j < Weights::kPeriod) {
    const Floats factor = hn::Set(kFloats, x[j]);
    HWY_UNROLL(8)
    for (int64_t v = 0; v < kVectors; ++v) {
      sum[v] = hn::MulAdd(
          Weights::template weight<j>(words + v * kLanes), factor, sum[v]);
    }
    add_products<Weights, j + 1>(words, x, sum);
  }
}

// sum = the products of the block at column `c`, staged at `words`.
template <class Weights>
HWY_INLINE void sum_block(
    const TileRows& rows,
    const uint32_t* HWY_RESTRICT words,
    const float* HWY_RESTRICT x,
    int64_t c,
    Floats (&sum)[kVectors]) {
  HWY_UNROLL(8)
  for (int64_t v = 0; v < kVectors; ++v) {
    sum[v] = hn::Zero(kFloats);
  }
  constexpr int64_t kPeriod = Weights::kPeriod;
  constexpr int64_t kPeriodBytes = kPeriod * Weights::kBits / 8;
  constexpr int64_t kPeriodWords = kPeriodBytes / 4 * kTile;
  for (int64_t p = 0; p < kBlock; p += kPeriod) {
    prefetch_ahead(rows, (c + p) * Weights::kBits / 8, kPeriodBytes);
    add_products<Weights, 0>(words, x + c + p, sum);
    words += kPeriodWords;
  }
}

// total = scale * sum + total, and the bias's term where a group ends, for
// outputs `i` of the tile and up.
template <int kColumns>
HWY_INLINE void scale_sums(
    const TileScales& scales,
    int64_t block,
    int64_t i,
    const float* x_sums,
    const Floats (&sum)[kColumns],
    Floats (&total)[kColumns]) {
  const int64_t group = scales.group(block);
  const float* factors = scales.scales + group * kTile + i;
  HWY_UNROLL(8)
  for (int v = 0; v < kColumns; ++v) {
    total[v] =
        hn::MulAdd(hn::Load(kFloats, factors + v * kLanes), sum[v], total[v]);
  }
  if (scales.biases && scales.ends_group(block)) {
    const float* biases = scales.biases + group * kTile + i;
    const Floats x_sum = hn::Set(kFloats, x_sums[group]);
    HWY_UNROLL(8)
    for (int v = 0; v < kColumns; ++v) {
      total[v] =
          hn::MulAdd(hn::Load(kFloats, biases + v * kLanes), x_sum, total[v]);
    }
  }
}

template <class Weights>
HWY_INLINE void multiply_one(
    const ProductTask& task,
    const TileRows& rows,
    const TileScales& scales) {
  constexpr int64_t kStage = Weights::kStageBlocks * kBlock;
  HWY_ALIGN uint32_t stage[kStageWords * kTile];
  const float* HWY_RESTRICT x = task.x[0];
  const int64_t in = task.w->in;
  Floats total[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) {
    total[v] = hn::Zero(kFloats);
  }
  for (int64_t first = 0; first < in; first += kStage) {
    const int64_t end = std::min(first + kStage, in);
    stage_weights<Weights>(rows, first, end - first, stage);
    const uint32_t* words = stage;
    for (int64_t c = first; c < end; c += kBlock) {
      Floats sum[kVectors];
      sum_block<Weights>(rows, words, x, c, sum);
      words += Weights::kBits * kTile;
      scale_sums(scales, c / kBlock, 0, task.sums[0], sum, total);
    }
  }
  for (int64_t v = 0; v < kVectors; ++v) {
    hn::StoreU(total[v], kFloats, task.out + v * kLanes);
  }
}

// panel[j * kTile] and up = weight j of kLanes rows, for j, j + 1, ... of a
// period. Always whole periods: what is staged past the end of a row is zero.
template <class Weights, int j>
HWY_INLINE void unpack_period(
    const uint32_t* HWY_RESTRICT words,
    int64_t stride,
    float* HWY_RESTRICT panel) {
  if constexpr (j < Weights::kPeriod) {
    hn::Store(Weights::template weight<j>(words), kFloats, panel + j * stride);
    unpack_period<Weights, j + 1>(words, stride, panel);
  }
}

template <class Weights>
HWY_INLINE void unpack_panel(
    const TileRows& rows,
    int64_t first,
    int64_t end,
    float* HWY_RESTRICT panel) {
  constexpr int64_t kStage = Weights::kStageBlocks * kBlock;
  HWY_ALIGN uint32_t stage[kStageWords * kTile];
  for (int64_t s = first; s < end; s += kStage) {
    const int64_t stage_end = std::min(s + kStage, end);
    stage_weights<Weights>(rows, s, stage_end - s, stage);
    for (int64_t c = s; c < stage_end; c += Weights::kPeriod) {
      const uint32_t* words = stage + (c - s) * Weights::kBits / 32 * kTile;
      float* to = panel + (c - first) * kTile;
      for (int64_t v = 0; v < kTile; v += kLanes) {
        unpack_period<Weights, 0>(words + v, kTile, to + v);
      }
    }
  }
}

// Columns `first` to `end` of W, unpacked.
struct Panel {
  const float* weights;
  int64_t first;
  int64_t end;
  TileScales scales;
};

// Takes the sums of a block into the totals of task row `row`, outputs `i` of
// the tile and up.
template <int kColumns>
HWY_INLINE void add_sums(
    const ProductTask& task,
    const TileScales& scales,
    int64_t block,
    int64_t row,
    int64_t i,
    const Floats (&sum)[kColumns]) {
  float* totals = task.out + row * kTile + i;
  Floats total[kColumns];
  HWY_UNROLL(8)
  for (int v = 0; v < kColumns; ++v) {
    total[v] = hn::LoadU(kFloats, totals + v * kLanes);
  }
  scale_sums(scales, block, i, task.sums[row], sum, total);
  HWY_UNROLL(8)
  for (int v = 0; v < kColumns; ++v) {
    hn::StoreU(total[v], kFloats, totals + v * kLanes);
  }
}

// Adds the panel's part to the totals of task rows `row` .. row + kRows - 1.
template <int kRows>
HWY_NOINLINE void
add_panel(const ProductTask& task, const Panel& panel, int64_t row) {
  constexpr int kColumns = columns_at_once<kRows>();
  for (int64_t i = 0; i < kTile; i += kColumns * kLanes) {
    for (int64_t c = panel.first; c < panel.end; c += kBlock) {
      const float* x[kRows];
      for (int r = 0; r < kRows; ++r) {
        x[r] = task.x[row + r] + c;
      }
      Floats sum[kRows][kColumns];
      sum_panel<kRows, kColumns>(
          kFloats,
          x,
          kBlock,
          panel.weights + (c - panel.first) * kTile + i,
          kTile,
          sum);
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        add_sums(task, panel.scales, c / kBlock, row + r, i, sum[r]);
      }
    }
  }
}

HWY_INLINE void add_panel_to_all(const ProductTask& task, const Panel& panel) {
  int64_t row = 0;
  for (; row + kMaxRows <= task.rows; row += kMaxRows) {
    add_panel<kMaxRows>(task, panel, row);
  }
  for_row_count<kMaxRows - 1>(task.rows - row, [&](auto n) HWY_ATTR {
    add_panel<n()>(task, panel, row);
  });
}

template <class Weights>
HWY_INLINE void multiply_rows(
    const ProductTask& task,
    const TileRows& rows,
    const TileScales& scales) {
  float* panel_memory = task.memory;
  std::fill_n(task.out, task.rows * kTile, 0.0f);
  const int64_t in = task.w->in;
  for (int64_t first = 0; first < in; first += kPanelColumns) {
    const int64_t end = std::min(first + kPanelColumns, in);
    unpack_panel<Weights>(rows, first, end, panel_memory);
    const Panel panel{panel_memory, first, end, scales};
    add_panel_to_all(task, panel);
  }
}

template <class Weights>
HWY_NOINLINE void multiply(const ProductTask& task) {
  const Matrix& w = *task.w;
  const TileRows rows(w.weight, row_bytes(w), task.first, w.out);
  const TileScales scales = tile_scales(task);
  if constexpr (Weights::kDirect) {
    if (task.rows == 1) {
      return multiply_one<Weights>(task, rows, scales);
    }
  }
  multiply_rows<Weights>(task, rows, scales);
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
