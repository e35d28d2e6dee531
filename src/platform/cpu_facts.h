// How many threads are worth starting here.
#pragma once

#include <filesystem>

namespace mlx_flash {

// The least of the processors this process may run on (affinity) and the
// cgroup's CPU quota, rounded up; at least 1.
int usable_cpus(const std::filesystem::path& root = "/");

} // namespace mlx_flash
