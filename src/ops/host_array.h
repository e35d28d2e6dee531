// Arrays for results that our own functions compute on the CPU, at once and
// not in MLX's lazy graph.
#pragma once

#include <mlx/array.h>

namespace mlx_flash::ops {

namespace mx = mlx::core;

// Allocated, uninitialised, row-contiguous and evaluated: to be filled through
// data<T>() before anybody else sees it.
mx::array new_array(mx::Shape shape, mx::Dtype dtype = mx::float32);

// The numbers of an evaluated, row-contiguous f32 array.
const float* floats_of(const mx::array& x);

} // namespace mlx_flash::ops
