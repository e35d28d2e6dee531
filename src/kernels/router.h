// The choice of experts: softmax over all, the k most probable, optionally
// normalised to sum to one. Plain f32, the same bits for any rows and threads.
#pragma once

#include <cstdint>

#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// logits: [rows, experts]. ids, weights: [rows, k], most probable first; of
// equal probabilities the lower id comes first. NaN logits rank last, so ids
// are always valid. 1 <= k <= experts.
void route(
    ThreadPool& pool,
    const float* logits,
    int64_t rows,
    int64_t experts,
    int64_t k,
    bool normalize,
    uint32_t* ids,
    float* weights);

} // namespace mlx_flash::kernels
