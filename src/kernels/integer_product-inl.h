// The matrix product of one tile of W and some rows of x, with x as integers.
//
// The order of operations for each output, whatever the number of rows:
//   total = 0
//   for each group, in order:
//     sum = sum of code * integer, exact
//     total = (w_scale * x_scale) * sum + total           (fused where it is)
//     affine: total = w_bias * x_sum + total              (fused where it is)
// with x_sum the sum of the group's rounded x, x_scale times that of the
// integers: the bias must multiply what the codes multiply, or the rounding
// error of x enters twice. mxfp4 takes twice the code's number for the code,
// and half of w_scale.

#if defined(MLX_FLASH_KERNELS_INTEGER_PRODUCT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_INTEGER_PRODUCT_INL_H_
#undef MLX_FLASH_KERNELS_INTEGER_PRODUCT_INL_H_
#else
#define MLX_FLASH_KERNELS_INTEGER_PRODUCT_INL_H_
#endif

#include <algorithm>

#include "kernels/codes-inl.h"
#include "kernels/column_order.h"
#include "kernels/dot-inl.h"
#include "kernels/row_product-inl.h"
#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Four bytes of x in every lane.
HWY_INLINE Words broadcast_quad(const int8_t* HWY_RESTRICT x) {
  uint32_t four;
  std::memcpy(&four, x, sizeof(four));
  return hn::Set(kWords, four);
}

// total = (w_scale * x_scale) * sum + total, then w_bias * x_sum + total, for
// kColumns vectors whose scales and biases begin at `w_scales`, `w_biases`;
// without biases where that is null. x_sum: of integers.
template <int kColumns>
HWY_INLINE void scale_integers(
    const float* HWY_RESTRICT w_scales,
    const float* HWY_RESTRICT w_biases,
    float x_scale,
    float x_sum,
    const Ints (&sum)[kColumns],
    Floats (&total)[kColumns]) {
  const Floats factor = hn::Set(kFloats, x_scale);
  HWY_UNROLL(8)
  for (int c = 0; c < kColumns; ++c) {
    const Floats scale =
        hn::Mul(hn::Load(kFloats, w_scales + c * kLanes), factor);
    total[c] = hn::MulAdd(scale, hn::ConvertTo(kFloats, sum[c]), total[c]);
  }
  if (!w_biases) {
    return;
  }
  const Floats bias_factor = hn::Set(kFloats, x_scale * x_sum);
  HWY_UNROLL(8)
  for (int c = 0; c < kColumns; ++c) {
    total[c] = hn::MulAdd(
        hn::Load(kFloats, w_biases + c * kLanes), bias_factor, total[c]);
  }
}

// What a group's sum begins with, so that kOffset drops out of its codes.
template <class CodeType>
HWY_INLINE Ints first_sum(float x_sum) {
  return hn::Set(kInts, static_cast<int32_t>(x_sum) * -CodeType::kOffset);
}

// panel[q * kTile] and up = quad q of kLanes rows, for q, q + 1, ... of a
// block.
template <class CodeType, int q>
HWY_INLINE void unpack_quads(
    const uint32_t* HWY_RESTRICT words,
    uint32_t* HWY_RESTRICT panel) {
  if constexpr (q < kQuads) {
    hn::Store(CodeType::template quad<q>(words), kWords, panel + q * kTile);
    unpack_quads<CodeType, q + 1>(words, panel);
  }
}

template <class CodeType>
HWY_INLINE void unpack_codes(
    const TileRows& rows,
    int64_t first,
    int64_t end,
    uint32_t* HWY_RESTRICT panel) {
  using Weights = AffineWeights<CodeType::kBits>;
  constexpr int64_t kStage = Weights::kStageBlocks * kBlock;
  HWY_ALIGN uint32_t stage[kStageWords * kTile];
  for (int64_t s = first; s < end; s += kStage) {
    const int64_t stage_end = std::min(s + kStage, end);
    stage_weights<Weights>(rows, s, stage_end - s, stage);
    for (int64_t c = s; c < stage_end; c += kBlock) {
      const uint32_t* words = stage + (c - s) * CodeType::kBits / 32 * kTile;
      uint32_t* to = panel + (c - first) / 4 * kTile;
      for (int64_t v = 0; v < kTile; v += kLanes) {
        unpack_quads<CodeType, 0>(words + v, to + v);
      }
    }
  }
}

// Columns `first` to `end` of W as quads: [(end - first) / 4, kTile].
struct CodePanel {
  const uint32_t* quads;
  int64_t first;
  int64_t end;
  TileScales scales;
};

// sum = the sums of one group, columns `c` to `c + size` of x, `quads` in the
// panel, for kRows rows of x in `planes` planes; added to what is in `total`.
template <int kRows, int kColumns, int kSumQuads, class Sum>
HWY_INLINE void sum_group_of_panel(
    const int8_t* const (&x)[kRows],
    int planes,
    const uint32_t* HWY_RESTRICT quads,
    int64_t c,
    int64_t size,
    Ints (&total)[kRows][kColumns]) {
  // Quads come in pairs: neighbours, or the same place in either plane.
  const int64_t second = planes == 2 ? kChunkBytes : 4;
  const int64_t step = planes == 2 ? 4 : 8;
  for (const int64_t end = c + size; c < end; c += 4 * kSumQuads) {
    Sum sum[kRows][kColumns];
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (int v = 0; v < kColumns; ++v) {
        sum[r][v].start(total[r][v]);
      }
    }
    int64_t at = column_offset(planes, c);
    for (int pair = 0; pair < kSumQuads / 2; ++pair, at += step) {
      HWY_UNROLL(2)
      for (int64_t half = 0; half < 2; ++half) {
        Words codes[kColumns];
        HWY_UNROLL(8)
        for (int v = 0; v < kColumns; ++v) {
          codes[v] = hn::Load(kWords, quads + v * kLanes);
        }
        quads += kTile;
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) {
          const Words factor = broadcast_quad(x[r] + at + half * second);
          HWY_UNROLL(8)
          for (int v = 0; v < kColumns; ++v) {
            sum[r][v].add(codes[v], factor);
          }
        }
      }
    }
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (int v = 0; v < kColumns; ++v) {
        total[r][v] = sum[r][v].finish(total[r][v]);
      }
    }
  }
}

// Rows of x that are multiplied at once, and vectors of the tile: as many as
// the registers hold beside the codes and what is broadcast.
template <class Sum>
struct CodeTile {
  static constexpr int kColumns = 2;
  static constexpr int kRows =
      std::min(12, (kRegisters - kColumns - 2) / (kColumns * Sum::kRegisters));
};

// Adds the panel's part to the totals of task rows `row` .. row + kRows - 1.
template <int kRows, class CodeType, class Sum>
HWY_NOINLINE void
add_code_panel(const ProductTask& task, const CodePanel& panel, int64_t row) {
  constexpr int kColumns = CodeTile<Sum>::kColumns;
  const TileScales& scales = panel.scales;
  const int64_t size = scales.group_blocks * kBlock;
  const int planes = planes_of(task.w->bits);
  const int8_t* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = task.integers[row + r];
  }
  for (int64_t i = 0; i < kTile; i += kColumns * kLanes) {
    for (int64_t c = panel.first; c < panel.end; c += size) {
      const int64_t group = scales.group(c / kBlock);
      Ints sum[kRows][kColumns];
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        const Ints start = first_sum<CodeType>(task.sums[row + r][group]);
        HWY_UNROLL(8)
        for (int v = 0; v < kColumns; ++v) {
          sum[r][v] = start;
        }
      }
      constexpr int kSumQuads = Sum::most_quads(CodeType::kMost);
      sum_group_of_panel<kRows, kColumns, kSumQuads, Sum>(
          x,
          planes,
          panel.quads + (c - panel.first) / 4 * kTile + i,
          c,
          size,
          sum);
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        float* out = task.out + (row + r) * kTile + i;
        Floats total[kColumns];
        HWY_UNROLL(8)
        for (int v = 0; v < kColumns; ++v) {
          total[v] = hn::LoadU(kFloats, out + v * kLanes);
        }
        scale_integers(
            scales.scales + group * kTile + i,
            scales.biases ? scales.biases + group * kTile + i : nullptr,
            task.scales[row + r][group],
            task.sums[row + r][group],
            sum[r],
            total);
        HWY_UNROLL(8)
        for (int v = 0; v < kColumns; ++v) {
          hn::StoreU(total[v], kFloats, out + v * kLanes);
        }
      }
    }
  }
}

template <class CodeType, class Sum>
HWY_INLINE void multiply_code_rows(
    const ProductTask& task,
    const TileRows& rows,
    const TileScales& scales) {
  constexpr int kRows = CodeTile<Sum>::kRows;
  auto* quads = reinterpret_cast<uint32_t*>(task.memory);
  // As many bytes as a panel of floats has, and whole groups.
  constexpr int64_t kColumns = 4 * kPanelColumns;
  std::fill_n(task.out, task.rows * kTile, 0.0f);
  const int64_t in = task.w->in;
  for (int64_t first = 0; first < in; first += kColumns) {
    const int64_t end = std::min(first + kColumns, in);
    unpack_codes<CodeType>(rows, first, end, quads);
    const CodePanel panel{quads, first, end, scales};
    for_row_parts<kRows>(task.rows, [&](auto n, int64_t row) HWY_ATTR {
      add_code_panel<n(), CodeType, Sum>(task, panel, row);
    });
  }
}

template <class CodeType, class BaseSum>
HWY_NOINLINE void multiply_codes(const ProductTask& task) {
  constexpr bool kFits = BaseSum::most_quads(CodeType::kMost) > 0;
  using Sum = typename SumFor<BaseSum, kFits>::Type;
#if MLX_FLASH_HAVE_ROW_PRODUCT
  // Other codes are too slow to unpack for few uses.
  if constexpr (CodeType::kBits == 4 || CodeType::kBits == 8) {
    if (task.rows <= kFewCodeRows) {
      return multiply_few_rows<CodeType, Sum>(task);
    }
  }
#endif
  const Matrix& w = *task.w;
  const TileRows rows(w.weight, row_bytes(w), task.first, w.out);
  multiply_code_rows<CodeType, Sum>(task, rows, tile_scales(task));
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
