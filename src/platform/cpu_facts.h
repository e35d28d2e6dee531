// How many threads are worth starting here, and what the processor can do.
#pragma once

#include <filesystem>

namespace mlx_flash {

// The least of the processors this process may run on (affinity) and the
// cgroup's CPU quota, rounded up; at least 1.
int usable_cpus(const std::filesystem::path& root = "/");

// Whether the processor multiplies and adds up bytes four at a time in vectors
// of so many bits: AVX-512 VNNI (512), AVX-VNNI (256) or NEON DotProd (128).
bool cpu_has_byte_dot(int vector_bits);

} // namespace mlx_flash
