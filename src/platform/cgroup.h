// The control groups (v1 and v2) that enclose this process, as folders to
// read limits from. Linux only in effect: elsewhere there are none.
//
// Thread rule: free functions without state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_flash {

struct CgroupLevel {
  std::filesystem::path folder; // under the given root
  std::string name; // the same without that root, for messages
  bool v2 = false;
};

// From the process's own group up to the topmost visible one, for the v1
// controller `controller` ("memory", "cpu") and for the v2 hierarchy. Where
// the process's path is not visible (a container with a cgroup namespace of
// its own) its deepest visible part is taken, at the least the mount itself.
std::vector<CgroupLevel> enclosing_cgroups(
    const std::filesystem::path& root,
    std::string_view controller);

// The processors' worth of time that the tightest CPU quota of all levels
// allows, such as 1.5. Empty without a quota.
std::optional<double> cgroup_cpu_quota(const std::filesystem::path& root);

// Text of a file of the kernel's; empty where it cannot be read.
std::optional<std::string> read_kernel_file(const std::filesystem::path& path);

// A file that holds one number; empty for "max", -1 and anything else.
std::optional<uint64_t> read_kernel_number(const std::filesystem::path& path);

// The number that follows `key` at the start of a line ("key 12" or
// "Key:  12 kB", then without the unit).
std::optional<uint64_t> find_kernel_number(
    std::string_view text,
    std::string_view key);

} // namespace mlx_flash
