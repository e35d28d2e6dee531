// Rows of activations made ready for products: rounded to integers and summed
// by groups, once, for all the matrices that they are multiplied with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.h"
#include "kernels/precision.h"
#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// Views of the memory that prepare_rows() filled, and of x. Row r of each
// array begins at r * (its second dimension).
//
// int8: for each group of each row, with the group's largest magnitude a,
//   scale = a / 127
//   integer = round(x * (127 / a)), halves to even; 0, and scale 0, where a is
//     below 2^-119 (127 / a would be infinite)
//   sum = the sum of the integers
// A group with an infinity or a NaN has the scale NaN. f32: sum = the group's
// sum in f32.
struct PreparedRows {
  ConstRows x;
  bool has_integers = false;
  int64_t stride = 0; // of integers, in bytes
  int64_t groups = 0; // 0 for dense weights
  const float* sums = nullptr; // [rows, groups]
  const float* scales = nullptr; // [rows, groups], with integers
  // [rows, stride]; columns in the order of kernels/column_order.h, zeros where
  // there are none; with integers
  const int8_t* integers = nullptr;
};

// True if rows prepared for `a` serve products with `b`.
bool same_preparation(const Matrix& a, const Matrix& b, Precision precision);

// Floats of memory that rows prepared for `w` take.
size_t prepared_floats(const Matrix& w, Precision precision, int64_t rows);

// `memory` is 64-byte aligned. x stays in use.
PreparedRows prepare_rows(
    ThreadPool& pool,
    const Matrix& w,
    Precision precision,
    const ConstRows& x,
    float* memory);

} // namespace mlx_flash::kernels
