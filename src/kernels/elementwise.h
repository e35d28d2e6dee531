// Row-wise f32 operations. Each row's result depends on that row alone, in a
// fixed order: the same bits for any number of rows and threads.
#pragma once

#include <cstdint>

#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// out[r][i] = x[r][i] / sqrt(mean(x[r]^2) + eps) * weight[i]
// (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
// x, out: [rows, n]; may be the same memory.
void rms_norm(
    ThreadPool& pool,
    const float* x,
    const float* weight,
    float eps,
    int64_t rows,
    int64_t n,
    float* out);

// cosines, sines: [rows, pairs] of positions[r] * frequencies[i], computed in
// double precision. One table serves every layer of a step.
void rope_angles(
    ThreadPool& pool,
    const int32_t* positions,
    const float* frequencies,
    int64_t rows,
    int64_t pairs,
    float* cosines,
    float* sines);

// Rotary embedding in halves ("non-traditional"): for i < dims / 2,
//   a = x[i], b = x[i + dims / 2]
//   out[i] = a cos[i] - b sin[i], out[i + dims / 2] = a sin[i] + b cos[i]
// and dimensions from `dims` up are copied. (Su et al., "RoFormer", 2021.)
// x, out: [rows, heads, head_dim]; may be the same memory. cosines, sines:
// [rows, dims / 2], from rope_angles().
void rope(
    ThreadPool& pool,
    const float* x,
    const float* cosines,
    const float* sines,
    int64_t rows,
    int64_t heads,
    int64_t head_dim,
    int64_t dims,
    float* out);

// out[i] = a[i] + b[i]; out may be a or b.
void add(
    ThreadPool& pool,
    const float* a,
    const float* b,
    int64_t n,
    float* out);

// out[r] = sum over j of weights[r][j] * y[r * k + j], in the order of j.
// y: [rows * k, n], weights: [rows, k], out: [rows, n].
void combine_experts(
    ThreadPool& pool,
    const float* y,
    const float* weights,
    int64_t rows,
    int64_t k,
    int64_t n,
    float* out);

// Double-precision references for the tests.
void reference_rms_norm(
    const float* x,
    const float* weight,
    float eps,
    int64_t rows,
    int64_t n,
    float* out);
void reference_rope(
    const float* x,
    const int32_t* positions,
    const float* frequencies,
    int64_t rows,
    int64_t heads,
    int64_t head_dim,
    int64_t dims,
    float* out);
void reference_swiglu(
    const float* gate,
    const float* up,
    int64_t n,
    float* out);

} // namespace mlx_flash::kernels
