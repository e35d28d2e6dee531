// How products are cut into the tasks of a parallel region: tiles of W times
// blocks of rows of x. Shared by matmul.cpp and expert_mlp.cpp.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/prepared_rows.h"
#include "kernels/product.h"

namespace mlx_flash::kernels {

inline void check(const Matrix& w) {
  MLX_FLASH_CHECK(w.in >= 1 && w.out >= 0);
  if (w.type == WeightType::affine) {
    const int b = w.bits;
    MLX_FLASH_CHECK(b == 2 || b == 3 || b == 4 || b == 5 || b == 6 || b == 8);
    const int g = w.group_size;
    MLX_FLASH_CHECK(g == 32 || g == 64 || g == 128);
    MLX_FLASH_CHECK(w.in % g == 0);
    MLX_FLASH_CHECK(w.scale_type != ScaleType::e8m0);
  }
  if (w.type == WeightType::mxfp4) {
    MLX_FLASH_CHECK(w.bits == 4 && w.group_size == 32 && w.in % 32 == 0);
    MLX_FLASH_CHECK(w.scale_type == ScaleType::e8m0);
  }
}

inline int64_t rows_per_task(int64_t rows) {
  return std::min(rows, kTaskRows);
}

// By rows of x within tiles of W, so that tasks of one tile, which read the
// same weights, follow each other.
struct Cut {
  int64_t tile;
  int64_t row_blocks;
  int64_t tasks;

  Cut(const Matrix& w, int64_t rows)
      : tile(product_tile()),
        row_blocks((rows + kTaskRows - 1) / kTaskRows),
        tasks((w.out + tile - 1) / tile * row_blocks) {}

  int64_t first_output(int64_t task) const {
    return task / row_blocks * tile;
  }
  int64_t row_block(int64_t task) const {
    return task % row_blocks;
  }
};

// Of the tile whose first output is `first`.
inline TileBytes tile_bytes(const Matrix& w, int64_t first) {
  const int64_t groups = groups_of(w);
  if (first >= w.out || groups == 0) {
    return {};
  }
  const int64_t scales = first * groups * scale_bytes(w.scale_type);
  return {
      w.weight + first * row_bytes(w),
      w.scales + scales,
      w.type == WeightType::affine ? w.biases + scales : nullptr};
}

// Tasks of a product that are worth waking a thread for.
inline int64_t grain_of(const Matrix& w, int64_t rows) {
  constexpr int64_t kProductsPerChunk = 32768;
  return 1 + kProductsPerChunk / (w.in * product_tile() * rows_per_task(rows));
}

// The rows of x in a task, by address, for a task's lifetime. Row r is row
// index[r] of what was prepared, or r itself.
struct TaskRows {
  const float* x[kTaskRows];
  const float* sums[kTaskRows];
  const float* scales[kTaskRows];
  const int8_t* integers[kTaskRows];
  bool has_integers;
  int64_t first;
  int64_t count;

  TaskRows(
      const PreparedRows& from,
      const uint32_t* index,
      int64_t rows,
      int64_t block)
      : has_integers(from.has_integers),
        first(block * kTaskRows),
        count(std::min(kTaskRows, rows - first)) {
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = index ? index[first + r] : first + r;
      x[r] = from.x[row];
      if (from.groups > 0) {
        sums[r] = from.sums + row * from.groups;
      }
      if (has_integers) {
        scales[r] = from.scales + row * from.groups;
        integers[r] = from.integers + row * from.stride;
      }
    }
  }
};

inline ProductTask make_task(
    const Matrix& w,
    int64_t first,
    const TaskRows& rows,
    float* out,
    float* memory) {
  ProductTask task;
  task.w = &w;
  task.first = first;
  task.rows = rows.count;
  task.x = rows.x;
  task.sums = rows.sums;
  task.integers = rows.has_integers ? rows.integers : nullptr;
  task.scales = rows.has_integers ? rows.scales : nullptr;
  task.out = out;
  task.memory = memory;
  return task;
}

// Copies a task's results, [rows, tile], to rows of y, w.out numbers each.
inline void copy_results(
    const float* results,
    int64_t tile,
    int64_t first,
    int64_t out,
    const TaskRows& rows,
    const MutableRows& y) {
  const auto bytes =
      static_cast<size_t>(std::min(tile, out - first)) * sizeof(float);
  for (int64_t r = 0; r < rows.count; ++r) {
    std::memcpy(y[rows.first + r] + first, results + r * tile, bytes);
  }
}

} // namespace mlx_flash::kernels
