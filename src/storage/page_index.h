// Which pages a page store has, and which one it gives up first: of those that
// were never used again the one that was used least recently, as long as those
// that were leave them a quarter of the room (segmented LRU: Karedla et al.,
// "Caching strategies to improve disk system performance", 1994). All pages of
// one model save the same work per byte, so that is their value; texts that
// many begin with stay while texts of one conversation come and go.
//
// Knows names and times, not files. Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <unordered_map>

namespace mlx_flash {

class PageIndex {
 public:
  using Time = std::filesystem::file_time_type;

  struct Page {
    std::string name;
    uint64_t bytes = 0;
    Time last_use{};
    bool again = false; // it was used after it was made
  };

  // Of pages with so many bytes together that there are none too many.
  explicit PageIndex(uint64_t most_bytes) : most_bytes_(most_bytes) {}

  // In place of one with that name, if there is one.
  void add(Page page);
  // Null if there is none.
  const Page* find(const std::string& name) const;
  // It is used, again. There must be such a page.
  void use(const std::string& name, Time now);
  void remove(const std::string& name);

  // The page to give up first. Null when there is none.
  const Page* least() const;

  uint64_t bytes() const {
    return once_bytes_ + again_bytes_;
  }
  size_t size() const {
    return pages_.size();
  }

 private:
  using Order = std::set<std::pair<Time, std::string>>;

  Order& order_of(const Page& page) {
    return page.again ? again_ : once_;
  }
  uint64_t& bytes_of(const Page& page) {
    return page.again ? again_bytes_ : once_bytes_;
  }

  const uint64_t most_bytes_;
  std::unordered_map<std::string, Page> pages_; // by name
  Order once_;
  Order again_;
  uint64_t once_bytes_ = 0;
  uint64_t again_bytes_ = 0;
};

} // namespace mlx_flash
