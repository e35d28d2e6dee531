#include "platform/machine_facts.h"

#include <sys/utsname.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "platform/cgroup.h"

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace mlx_flash {

namespace fs = std::filesystem;

namespace {

std::string kernel_name() {
  utsname names{};
  if (::uname(&names) != 0) {
    return "unknown";
  }
  return std::string(names.sysname) + " " + names.release + " " + names.machine;
}

#ifdef __linux__

// The rest of the first line that begins with `key`, without the separators
// that follow it and without quotes.
std::optional<std::string> find_line(
    std::string_view text,
    std::string_view key) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(key)) {
      continue;
    }
    line.remove_prefix(key.size());
    const size_t first = line.find_first_not_of(" \t:=\"");
    if (first == line.npos) {
      continue;
    }
    const size_t last = line.find_last_not_of(" \t\"");
    return std::string(line.substr(first, last - first + 1));
  }
  return std::nullopt;
}

std::string cpu_name(const fs::path& root) {
  const std::string info =
      read_kernel_file(root / "proc/cpuinfo").value_or(std::string());
  if (const auto name = find_line(info, "model name")) {
    return *name;
  }
  // ARM kernels name the maker and the design by numbers, boards themselves.
  const auto part = find_line(info, "CPU part");
  if (const auto maker = find_line(info, "CPU implementer"); maker && part) {
    return "implementer " + *maker + " part " + *part;
  }
  const auto board =
      read_kernel_file(root / "sys/firmware/devicetree/base/model");
  return board ? std::string(board->c_str()) : "unknown";
}

// "266240K", "32M" or a plain number.
uint64_t cache_size(std::string_view text) {
  uint64_t bytes = 0;
  size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    bytes = bytes * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  const char unit = i < text.size() ? text[i] : '\0';
  return unit == 'K' ? bytes << 10 : unit == 'M' ? bytes << 20 : bytes;
}

uint64_t last_level_cache(const fs::path& root) {
  uint64_t highest = 0;
  uint64_t bytes = 0;
  for (int i = 0; i < 16; ++i) {
    const fs::path cache =
        root / ("sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i));
    const auto level = read_kernel_number(cache / "level");
    const auto size = read_kernel_file(cache / "size");
    if (level && size && *level > highest) {
      highest = *level;
      bytes = cache_size(*size);
    }
  }
  return bytes;
}

std::string distribution(const fs::path& root) {
  const auto release = read_kernel_file(root / "etc/os-release");
  const auto name = find_line(release.value_or(std::string()), "PRETTY_NAME");
  return name ? ", " + *name : "";
}

#endif

#ifdef __APPLE__

std::string sysctl_text(const char* name) {
  char text[256] = {};
  size_t size = sizeof(text) - 1;
  return sysctlbyname(name, text, &size, nullptr, 0) == 0 ? text : "";
}

uint64_t sysctl_number(const char* name) {
  uint64_t value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}

std::string cpu_name(const fs::path&) {
  const std::string name = sysctl_text("machdep.cpu.brand_string");
  return name.empty() ? "unknown" : name;
}

// Apple's own processors have no third level that the system tells of.
uint64_t last_level_cache(const fs::path&) {
  for (const char* name :
       {"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"}) {
    if (const uint64_t bytes = sysctl_number(name)) {
      return bytes;
    }
  }
  return 0;
}

std::string distribution(const fs::path&) {
  const std::string version = sysctl_text("kern.osproductversion");
  return version.empty() ? "" : ", macOS " + version;
}

#endif

} // namespace

MachineFacts read_machine_facts(const fs::path& root) {
  return {
      cpu_name(root),
      kernel_name() + distribution(root),
      last_level_cache(root)};
}

} // namespace mlx_flash
