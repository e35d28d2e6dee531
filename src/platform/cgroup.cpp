#include "platform/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace mlx_flash {

namespace fs = std::filesystem;

namespace {

struct Mount {
  std::string root; // which part of the hierarchy is mounted
  std::string point; // where
  bool v2 = false;
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

bool contains(std::string_view list, std::string_view item) {
  const auto items = split(list, ',');
  return std::find(items.begin(), items.end(), item) != items.end();
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '\\' && i + 3 < text.size();
    int value = 0;
    if (escaped &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, value, 8).ptr ==
            &text[i + 1] + 3) {
      result += static_cast<char>(value);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

// proc(5), mountinfo: "36 35 98:0 /root /point options [tags] - type source
// super-options".
std::optional<Mount> parse_mount(
    std::string_view line,
    std::string_view controller) {
  const auto fields = split(line, ' ');
  const auto dash = std::find(fields.begin(), fields.end(), "-");
  if (fields.size() < 6 || fields.end() - dash < 4) {
    return std::nullopt;
  }
  const std::string& type = dash[1];
  const bool v2 = type == "cgroup2";
  if (!v2 && !(type == "cgroup" && contains(dash[3], controller))) {
    return std::nullopt;
  }
  return Mount{unescape(fields[3]), unescape(fields[4]), v2};
}

// The process's path in the hierarchy: "0::/path" is v2, "4:cpu,cpuacct:/path"
// is v1.
std::optional<std::string>
own_path(std::string_view cgroups, std::string_view controller, bool v2) {
  for (const auto& line : split(cgroups, '\n')) {
    const size_t first = line.find(':');
    const size_t second =
        first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string names = line.substr(first + 1, second - first - 1);
    if (v2 ? names.empty() : contains(names, controller)) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

// `path` below `mount_root`; empty when it lies elsewhere, as it does for a
// process outside of the cgroup namespace ("/../x").
std::optional<fs::path> path_below(
    const std::string& path,
    const std::string& mount_root) {
  const fs::path whole(path);
  const fs::path relative = whole.lexically_relative(fs::path(mount_root));
  if (relative.empty() || *relative.begin() == ".." ||
      std::find(whole.begin(), whole.end(), "..") != whole.end()) {
    return std::nullopt;
  }
  return relative == "." ? fs::path() : relative;
}

void append_levels(
    const fs::path& root,
    const Mount& mount,
    fs::path below,
    std::vector<CgroupLevel>& levels) {
  const fs::path top = root / fs::path(mount.point).relative_path();
  std::error_code error;
  while (!below.empty() && !fs::is_directory(top / below, error)) {
    below = below.parent_path();
  }
  while (true) {
    const fs::path shown =
        below.empty() ? fs::path(mount.point) : fs::path(mount.point) / below;
    const fs::path folder = below.empty() ? top : top / below;
    levels.push_back({folder, shown.string(), mount.v2});
    if (below.empty()) {
      return;
    }
    below = below.parent_path();
  }
}

void append_hierarchy(
    const fs::path& root,
    const std::vector<Mount>& mounts,
    const std::optional<std::string>& own,
    std::vector<CgroupLevel>& levels) {
  if (mounts.empty() || !own) {
    return;
  }
  for (const auto& mount : mounts) {
    if (const auto below = path_below(*own, mount.root)) {
      append_levels(root, mount, *below, levels);
      return;
    }
  }
  append_levels(root, mounts.front(), {}, levels);
}

// "200000 100000" or "max 100000".
std::optional<double> parse_cpu_max(const std::string& text) {
  std::istringstream in(text);
  double quota = 0, period = 0;
  if (in >> quota >> period && quota > 0 && period > 0) {
    return quota / period;
  }
  return std::nullopt;
}

std::optional<double> level_cpu_quota(const CgroupLevel& level) {
  if (level.v2) {
    const auto text = read_kernel_file(level.folder / "cpu.max");
    return text ? parse_cpu_max(*text) : std::nullopt;
  }
  const auto quota = read_kernel_number(level.folder / "cpu.cfs_quota_us");
  const auto period = read_kernel_number(level.folder / "cpu.cfs_period_us");
  if (quota && period && *quota > 0 && *period > 0) {
    return static_cast<double>(*quota) / static_cast<double>(*period);
  }
  return std::nullopt;
}

} // namespace

std::vector<CgroupLevel> enclosing_cgroups(
    const fs::path& root,
    std::string_view controller) {
  const auto mountinfo = read_kernel_file(root / "proc/self/mountinfo");
  const auto cgroups = read_kernel_file(root / "proc/self/cgroup");
  std::vector<CgroupLevel> levels;
  if (!mountinfo || !cgroups) {
    return levels;
  }
  std::vector<Mount> v1, v2;
  for (const auto& line : split(*mountinfo, '\n')) {
    if (auto mount = parse_mount(line, controller)) {
      (mount->v2 ? v2 : v1).push_back(std::move(*mount));
    }
  }
  append_hierarchy(root, v1, own_path(*cgroups, controller, false), levels);
  append_hierarchy(root, v2, own_path(*cgroups, controller, true), levels);
  return levels;
}

std::optional<double> cgroup_cpu_quota(const fs::path& root) {
  std::optional<double> tightest;
  for (const auto& level : enclosing_cgroups(root, "cpu")) {
    if (const auto quota = level_cpu_quota(level)) {
      tightest = std::min(tightest.value_or(*quota), *quota);
    }
  }
  return tightest;
}

std::optional<std::string> read_kernel_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return std::nullopt;
  }
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

std::optional<uint64_t> read_kernel_number(const fs::path& path) {
  const auto text = read_kernel_file(path);
  uint64_t value = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), value).ec !=
          std::errc()) {
    return std::nullopt;
  }
  return value;
}

std::optional<uint64_t> find_kernel_number(
    std::string_view text,
    std::string_view key) {
  for (size_t at = text.find(key); at != std::string_view::npos;
       at = text.find(key, at + 1)) {
    size_t i = at + key.size();
    const bool whole_key = (at == 0 || text[at - 1] == '\n') &&
        i < text.size() && (text[i] == ' ' || text[i] == ':');
    if (!whole_key) {
      continue;
    }
    i = text.find_first_of("0123456789\n", i);
    uint64_t value = 0;
    if (i != std::string_view::npos &&
        std::from_chars(text.data() + i, text.data() + text.size(), value).ec ==
            std::errc()) {
      return value;
    }
  }
  return std::nullopt;
}

} // namespace mlx_flash
