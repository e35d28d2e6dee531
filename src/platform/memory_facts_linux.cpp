#ifdef __linux__

#include <malloc.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "platform/cgroup.h"
#include "platform/memory_facts.h"

namespace mlx_flash {

namespace fs = std::filesystem;

namespace {

// v1 writes "no limit" as a number just below 2^63.
constexpr uint64_t kNoLimit = 1ull << 60;

uint64_t minus(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

uint64_t number_or_zero(std::string_view text, std::string_view key) {
  return find_kernel_number(text, key).value_or(0);
}

// The level's limit, if it has one. memory.high does not kill, but a process
// held there is throttled until it is useless, so it is a limit for us.
std::optional<uint64_t> limit_of(const CgroupLevel& level) {
  uint64_t limit = kNoLimit;
  if (level.v2) {
    for (const char* name : {"memory.max", "memory.high"}) {
      limit = std::min(
          limit, read_kernel_number(level.folder / name).value_or(kNoLimit));
    }
  } else {
    limit = read_kernel_number(level.folder / "memory.limit_in_bytes")
                .value_or(kNoLimit);
    // Counts the groups above, too, which a container does not see.
    const auto stat = read_kernel_file(level.folder / "memory.stat");
    limit = std::min(
        limit,
        find_kernel_number(
            stat.value_or(std::string()), "hierarchical_memory_limit")
            .value_or(kNoLimit));
  }
  return limit < kNoLimit ? std::optional(limit) : std::nullopt;
}

// What the level and those below it use, clean page cache left out: the kernel
// takes that back before it refuses anything.
uint64_t use_of(const CgroupLevel& level) {
  const std::string stat =
      read_kernel_file(level.folder / "memory.stat").value_or(std::string());
  const std::string prefix = level.v2 ? "" : "total_";
  const auto field = [&](const char* name) {
    return number_or_zero(stat, prefix + name);
  };
  const uint64_t used =
      read_kernel_number(
          level.folder /
          (level.v2 ? "memory.current" : "memory.usage_in_bytes"))
          .value_or(0);
  const uint64_t file = field("inactive_file") + field("active_file");
  const uint64_t unclean = level.v2
      ? field("file_dirty") + field("file_writeback")
      : field("dirty") + field("writeback");
  return minus(used, minus(file, unclean));
}

} // namespace

MemoryFacts read_memory_facts(const fs::path& root) {
  const auto meminfo = read_kernel_file(root / "proc/meminfo");
  const auto total =
      find_kernel_number(meminfo.value_or(std::string()), "MemTotal");
  if (!total) {
    fail(
        ErrorCode::io,
        "[memory] {} does not say how much memory there is; give --memory "
        "in bytes",
        (root / "proc/meminfo").string());
  }
  // Kernels before 3.14 have no MemAvailable.
  const uint64_t available = find_kernel_number(*meminfo, "MemAvailable")
                                 .value_or(
                                     number_or_zero(*meminfo, "MemFree") +
                                     number_or_zero(*meminfo, "Cached"));
  MemoryFacts facts{*total * 1024, available * 1024, "MemAvailable"};
  for (const auto& level : enclosing_cgroups(root, "memory")) {
    const auto limit = limit_of(level);
    if (!limit) {
      continue;
    }
    facts.total_bytes = std::min(facts.total_bytes, *limit);
    const uint64_t free_bytes = minus(*limit, use_of(level));
    if (free_bytes < facts.free_bytes) {
      facts.free_bytes = free_bytes;
      facts.bound_by = level.name;
    }
  }
  return facts;
}

namespace {

// "some avg10=1.25 avg60=..." says percents.
std::optional<double> pressure_of(const fs::path& file) {
  const auto text = read_kernel_file(file);
  const std::string_view key = "some avg10=";
  if (!text || text->compare(0, key.size(), key) != 0) {
    return std::nullopt;
  }
  return std::strtod(text->c_str() + key.size(), nullptr) / 100;
}

} // namespace

std::optional<double> read_memory_pressure(const fs::path& root) {
  for (const auto& level : enclosing_cgroups(root, "memory")) {
    if (const auto pressure = pressure_of(level.folder / "memory.pressure")) {
      return pressure;
    }
  }
  return pressure_of(root / "proc/pressure/memory");
}

void configure_allocator() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 2);
  // Setting a threshold by hand also stops glibc from raising it when a large
  // block is freed, after which blocks of that size would stay in the heap.
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
#endif
}

void release_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

} // namespace mlx_flash

#endif
