// y = x W^T for weights as the checkpoint stores them.
//
// Same bits: each y[r][o] is a sum over `in` whose order depends on the type
// and shape of W and on the precision only: not on the number of rows, their
// position, or the number of threads. A matrix product and single vectors give
// the same bits.
//
// For affine weights the sum is, per group g of a row,
//   scale_g * sum(code * x) + bias_g * sum(x)
// where x is what prepare_rows() makes of it, and sum(x) is computed once per
// row of x. For mxfp4 it is scale_g * sum(number * x).
#pragma once

#include <span>

#include "kernels/matrix.h"
#include "kernels/prepared_rows.h"
#include "kernels/scratch.h"
#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// One of several products of the same rows; y has as many rows as x.
struct Product {
  Matrix w;
  MutableRows y;
};

// x rows have w.in floats, y rows w.out. x.count == y.count, any number.
// x and y must not overlap.
void matmul(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y);

// Several products of the same rows: x is prepared once, and the threads share
// out all of them together.
void matmuls(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    std::span<const Product> products,
    const ConstRows& x);

// Row `row` of W as floats, out[w.in]: the embedding of a token. For affine
// weights scale * code + bias, each rounded once; mxfp4 is exact.
void dequantize_row(const Matrix& w, int64_t row, float* out);

// Floats of scratch that a product needs for this many rows: for the budget.
// Several products need no more than the sum.
size_t matmul_scratch_floats(
    const Matrix& w,
    Precision precision,
    int64_t rows,
    int threads);

// Plain double-precision loops with the same meaning; what the tests compare
// every SIMD target with. For Precision::int8 x is rounded as prepare_rows()
// rounds it.
void reference_matmul(
    Precision precision,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y);

} // namespace mlx_flash::kernels
