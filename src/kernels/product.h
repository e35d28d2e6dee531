// One tile of a matrix product: what the SIMD code (product.cpp) computes and
// the drivers (matmul.cpp, expert_mlp.cpp) share out to threads.
//
// Thread rule: every function may run on any thread; a task's memory is its
// worker's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.h"

namespace mlx_flash::kernels {

// Weights of a row that are summed before they join the row's total; divides
// every group size.
inline constexpr int64_t kBlock = 32;

// The most rows of x in one task; bounds the memory of a worker.
inline constexpr int64_t kTaskRows = 128;

// Columns of a panel of unpacked weights. 32 rows of W make 16 KiB, which
// stays in the first-level cache while all rows of x pass by.
inline constexpr int64_t kPanelColumns = 128;

// Columns of dense weights that are summed before they join the row's total,
// and those of a panel of them, one more for each of 16 partial sums.
inline constexpr int64_t kSliceColumns = 1024;
inline constexpr int64_t kDensePanelColumns = kSliceColumns + 16;

// Where the arrays of a tile begin that the same worker will multiply next, for
// the kernel to fetch meanwhile; null where there is none.
struct TileBytes {
  const std::byte* weight = nullptr;
  const std::byte* scales = nullptr;
  const std::byte* biases = nullptr;
};

// out[r * product_tile() + i] = product of row r of x and row first + i of W.
// Results for rows past the end of W are written and mean nothing. Arrays of
// pointers have an element per row of x; what they point to is described in
// kernels/prepared_rows.h.
struct ProductTask {
  const Matrix* w = nullptr;
  int64_t first = 0;
  int64_t rows = 0; // of x, 1 .. kTaskRows
  const float* const* x = nullptr;
  const float* const* sums = nullptr; // quantised
  // Both null for products in f32.
  const int8_t* const* integers = nullptr;
  const float* const* scales = nullptr;
  TileBytes ahead;
  float* out = nullptr;
  float* memory = nullptr; // product_memory_floats()
};

inline int64_t groups_of(const Matrix& w) {
  return is_quantised(w) ? w.in / w.group_size : 0;
}

// Floats, in whole cache lines.
inline size_t padded_floats(int64_t floats) {
  return (static_cast<size_t>(floats) + 15) / 16 * 16;
}

// Rows of W in a tile on this processor.
int64_t product_tile();

// Scales are unpacked for so many groups of a row at once.
inline constexpr int64_t kUnitGroups = 8;
constexpr int64_t unit_groups(ScaleType type) {
  return type == ScaleType::e8m0 ? 2 * kUnitGroups : kUnitGroups;
}
inline int64_t unpacked_groups(const Matrix& w) {
  const int64_t unit = unit_groups(w.scale_type);
  return (groups_of(w) + unit - 1) / unit * unit;
}

// The memory that a worker needs for tasks of W: a panel, and the scales and
// biases of a tile.
inline size_t product_memory_floats(const Matrix& w) {
  if (!is_quantised(w)) {
    return padded_floats(kDensePanelColumns * product_tile());
  }
  const int64_t arrays = w.type == WeightType::affine ? 2 : 1;
  return padded_floats(
      (kPanelColumns + arrays * unpacked_groups(w)) * product_tile());
}

// The task's results for all of its tile.
void multiply_tile(const ProductTask& task);

// gate[i] = silu(gate[i]) * up[i], silu(a) = a / (1 + exp(-a)). exp is our own
// with relative error below 2e-7, the same for every element.
void gate_products(const float* up, int64_t n, float* gate);

} // namespace mlx_flash::kernels
