// How many threads are worth starting here.
#pragma once

#include <filesystem>
#include <string>

namespace mlx_flash {

// The least of the processors this process may run on (affinity) and the
// cgroup's CPU quota, rounded up; at least 1.
int usable_cpus(const std::filesystem::path& root = "/");

// Such as "Intel(R) Xeon(R) Processor"; empty where the system hides it.
std::string cpu_name();

} // namespace mlx_flash
