// What a token costs in bytes and operations, from a model's files. What
// follows from it is in mlx_flash/bench_figures.h.
//
// Thread rule: free functions without state.
#pragma once

#include "mlx_flash/bench_figures.h"
#include "models/model.h"
#include "storage/checkpoint.h"
#include "storage/expert_layout.h"

namespace mlx_flash {

// `kv_bytes`: keys and values of one position, as this device keeps them.
BenchWork work_of(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    const ModelShape& shape,
    uint64_t kv_bytes);

} // namespace mlx_flash
