// What tells two checkpoints apart without reading them as a whole.
//
// Thread rule: free function without state.
#pragma once

#include <string>

#include "storage/checkpoint.h"

namespace mlx_flash {

// Of config.json, and of each weight file its name, size, time of last change
// and some of its bytes, spread over all of it: weights that were trained
// further differ everywhere. Who changes a few weights by hand and resets the
// file's time is not found out. Throws Error(io).
std::string checkpoint_identity(const Checkpoint& checkpoint);

} // namespace mlx_flash
