// Memory from MLX's allocator, whose refusals are errors here and not null.
//
// Thread rule: may be called from any thread.
#pragma once

#include <mlx/allocator.h>

#include <cstddef>

namespace mlx_flash::ops {

namespace mx = mlx::core;

// At least `bytes` bytes, uninitialised. Throws Error(out_of_budget) when the
// system refuses them.
mx::allocator::Data allocate(size_t bytes);

// The same, for memory that somebody gives back by hand.
mx::allocator::Buffer allocate_buffer(size_t bytes);

} // namespace mlx_flash::ops
