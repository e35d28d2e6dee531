// How many threads are worth starting here, and what the processor can do.
#pragma once

#include <filesystem>

namespace mlx_flash {

// The least of the processors this process may run on (affinity) and the
// cgroup's CPU quota, rounded up; at least 1.
int usable_cpus(const std::filesystem::path& root = "/");

// Whether the processor multiplies and adds up bytes four at a time: AVX-512
// VNNI or NEON DotProd.
bool cpu_has_byte_dot();

} // namespace mlx_flash
