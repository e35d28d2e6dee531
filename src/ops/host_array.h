// Arrays for results that our own functions compute on the CPU, at once and
// not in MLX's lazy graph.
#pragma once

#include <mlx/array.h>

#include <memory>

#include "ops/block_cache.h"

namespace mlx_flash::ops {

namespace mx = mlx::core;

// Allocated, uninitialised, row-contiguous and evaluated: to be filled through
// data<T>() before anybody else sees it. A large one has a block of `blocks`,
// which it gives back with its last reference.
mx::array new_array(
    mx::Shape shape,
    mx::Dtype dtype,
    const std::shared_ptr<BlockCache>& blocks);

// The numbers of an evaluated, row-contiguous f32 array.
const float* floats_of(const mx::array& x);

} // namespace mlx_flash::ops
