// y = x W^T for weights as the checkpoint stores them, in f32 arithmetic.
//
// Same bits: each y[r][o] is a sum over `in` whose order depends on the type
// and shape of W only: not on the number of rows, their position, or the
// number of threads. A matrix product and single vectors give the same bits.
//
// For affine weights the sum is, per group g of a row,
//   scale_g * sum(q * x) + bias_g * sum(x)
// with sum(x) over the group computed once per row of x.
#pragma once

#include "kernels/matrix.h"
#include "kernels/scratch.h"
#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// x rows have w.in floats, y rows w.out. x.count == y.count, any number.
// x and y must not overlap.
void matmul(
    ThreadPool& pool,
    Scratch& scratch,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y);

// Row `row` of W as floats, out[w.in]: the embedding of a token. For affine
// weights scale * q + bias, each rounded once.
void dequantize_row(const Matrix& w, int64_t row, float* out);

// One expert of a SwiGLU layer on the rows `x` chooses:
//   y = down(silu(gate(x)) * up(x))
// gate and up are [inner, hidden], down is [hidden, inner]. Same bits as
// above.
void expert_mlp(
    ThreadPool& pool,
    Scratch& scratch,
    const Matrix& gate,
    const Matrix& up,
    const Matrix& down,
    const ConstRows& x,
    const MutableRows& y);

// Floats of scratch that the two need for this many rows: for the budget.
size_t matmul_scratch_floats(const Matrix& w, int64_t rows, int threads);
size_t expert_mlp_scratch_floats(
    const Matrix& gate,
    const Matrix& down,
    int64_t rows,
    int threads);

// Plain double-precision loops with the same meaning; what the tests compare
// every SIMD target with.
void reference_matmul(
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y);
void reference_expert_mlp(
    const Matrix& gate,
    const Matrix& up,
    const Matrix& down,
    const ConstRows& x,
    const MutableRows& y);

} // namespace mlx_flash::kernels
