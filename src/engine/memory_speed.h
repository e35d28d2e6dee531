// How fast memory can be read here: the bound of decoding, which reads every
// weight it needs once for each token.
//
// Thread rule: free functions; a call starts threads of its own.
#pragma once

#include <cstdint>

namespace mlx_flash {

// A buffer that caches cannot hold: twice the last level, from 256 MiB to
// 1 GiB, but never more than a quarter of the free memory. In bytes, whole
// pages of 4096 and one at least.
uint64_t memory_probe_bytes(uint64_t cache_bytes, uint64_t free_bytes);

// `threads` threads together read a buffer of so many bytes, again and again
// for about `seconds` and at least three times. Returns the median pass, GB/s.
// Throws Error(out_of_budget) when the system refuses the buffer.
double measure_memory_speed(int threads, uint64_t buffer_bytes, double seconds);

} // namespace mlx_flash
