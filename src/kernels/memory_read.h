// Reads memory as fast as this machine can: the bound that kernels which
// stream weights are measured against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

// Reads each byte once, every thread eight streams of its parts side by side,
// and returns the sum of all 64-bit words, modulo 2^64; the same for any number
// of threads. The address and the size are multiples of 8.
uint64_t read_memory(ThreadPool& pool, std::span<const std::byte> memory);

} // namespace mlx_flash::kernels
