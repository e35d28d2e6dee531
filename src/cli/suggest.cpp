#include "cli/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace mlx_flash::cli {

size_t edit_distance(std::string_view a, std::string_view b) {
  // The table of Damerau and Levenshtein, three rows of it at a time.
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> above(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min(
          {above[j] + 1,
           row[j - 1] + 1,
           above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::string suggestion(
    std::string_view name,
    std::span<const std::string> names) {
  constexpr size_t kLongest = 64; // no name of ours is as long
  if (name.size() > kLongest) {
    return "";
  }
  const std::string* nearest = nullptr;
  size_t distance = 0;
  for (const std::string& candidate : names) {
    const size_t d = edit_distance(name, candidate);
    if (nearest == nullptr || d < distance) {
      nearest = &candidate;
      distance = d;
    }
  }
  // Dashes are no evidence for one flag rather than another.
  const size_t letters =
      name.size() - std::min(name.find_first_not_of('-'), name.size());
  const bool near = distance <= std::max<size_t>(1, letters / 3);
  return nearest != nullptr && near
      ? fmt::format(" Did you mean '{}'?", *nearest)
      : "";
}

} // namespace mlx_flash::cli
