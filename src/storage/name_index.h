// Finds a thing by its name among many, whose names are kept elsewhere and
// are given by number. Names are sorted by hash, which is fast for hundreds of
// thousands of them, and equal hashes by name, so that names chosen to collide
// cost no more than others.
//
// Thread rule: immutable once built.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace mlx_flash {

class NameIndex {
 public:
  // Over things number `first` to `end` - 1. `name_of(i)` is the name of one.
  // Returns two that have the same name, if any do.
  template <typename NameOf>
  std::optional<std::pair<uint32_t, uint32_t>>
  build(uint32_t first, uint32_t end, const NameOf& name_of) {
    entries_.clear();
    entries_.reserve(end - first);
    for (uint32_t i = first; i < end; ++i) {
      entries_.push_back({hash_of(name_of(i)), i});
    }
    std::sort(
        entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
          return a.hash != b.hash ? a.hash < b.hash
                                  : name_of(a.number) < name_of(b.number);
        });
    const auto twin = std::adjacent_find(
        entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
          return a.hash == b.hash && name_of(a.number) == name_of(b.number);
        });
    if (twin == entries_.end()) {
      return std::nullopt;
    }
    return std::pair(twin->number, (twin + 1)->number);
  }

  // The number of the thing called `name`.
  template <typename NameOf>
  std::optional<uint32_t> find(std::string_view name, const NameOf& name_of)
      const {
    const uint64_t hash = hash_of(name);
    const auto found = std::lower_bound(
        entries_.begin(),
        entries_.end(),
        hash,
        [&](const Entry& a, uint64_t wanted) {
          return a.hash != wanted ? a.hash < wanted : name_of(a.number) < name;
        });
    if (found == entries_.end() || found->hash != hash ||
        name_of(found->number) != name) {
      return std::nullopt;
    }
    return found->number;
  }

 private:
  struct Entry {
    uint64_t hash;
    uint32_t number;
  };

  static uint64_t hash_of(std::string_view name);

  std::vector<Entry> entries_;
};

} // namespace mlx_flash
