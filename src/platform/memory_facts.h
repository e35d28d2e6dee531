// How much memory this machine has, how much of it is really free for us, and
// how much this process uses.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mlx_flash {

struct MemoryFacts {
  // Physical memory, or the smallest limit of an enclosing cgroup.
  uint64_t total_bytes = 0;
  // The least of what the system calls available and of every enclosing
  // cgroup's limit less its use (use that can be reclaimed at once, such as
  // clean page cache, does not count as use).
  uint64_t free_bytes = 0;
  // Where free_bytes comes from: "MemAvailable" or the cgroup's path.
  std::string bound_by;
};

// Linux: /proc/meminfo and cgroup v1 or v2, each level up to the root.
// `root` replaces "/" so that tests can describe other machines.
MemoryFacts read_memory_facts(const std::filesystem::path& root = "/");

// The share of the last ten seconds in which something had to wait for memory:
// in this process's cgroup, or else on this machine. On macOS the system's
// level of pressure: 0, 0.5 (warning) or 1 (critical). Empty where nothing says
// it.
std::optional<double> read_memory_pressure(
    const std::filesystem::path& root = "/");

// Makes the C allocator give freed memory back and keep few arenas, so that
// what is freed does not stay in the process. Call first thing in main().
void configure_allocator();

// Gives what the allocator holds but does not use back to the system.
void release_free_memory();

} // namespace mlx_flash
