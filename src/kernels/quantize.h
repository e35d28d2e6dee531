// The arithmetic of prepared_rows.h for one row; SIMD code in quantize.cpp.
#pragma once

#include <cstdint>

namespace mlx_flash::kernels {

// sums[g] = sum of group g of x, each of `size` floats.
void sum_groups(const float* x, int64_t groups, int64_t size, float* sums);

// As prepared_rows.h says. integers: integers_stride() bytes.
void quantize_groups(
    const float* x,
    int64_t groups,
    int64_t size,
    int planes,
    int8_t* integers,
    float* scales,
    float* sums);

} // namespace mlx_flash::kernels
