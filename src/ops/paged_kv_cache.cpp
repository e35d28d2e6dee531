#include "ops/paged_kv_cache.h"

#include <cstring>
#include <utility>

#include "base/align.h"
#include "base/check.h"

namespace mlx_flash::ops {

PagedKvCache::PagedKvCache(
    const KvShape& shape,
    int64_t tokens,
    kernels::KvType type)
    : layout_{shape.kv_heads, shape.head_dim, type},
      page_bytes_(kv_page_bytes(shape, type)),
      memory_(div_up(tokens, kKvPageTokens) * page_bytes_) {
  const auto pages = static_cast<uint32_t>(div_up(tokens, kKvPageTokens));
  for (uint32_t page = pages; page > 0; --page) {
    free_.push_back(page - 1); // the lowest page is taken first
  }
  users_.resize(pages);
}

int PagedKvCache::add_sequence() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (!sequences_[i].used) {
      sequences_[i].used = true;
      return static_cast<int>(i);
    }
  }
  sequences_.push_back({true, 0, {}});
  return static_cast<int>(sequences_.size()) - 1;
}

void PagedKvCache::remove_sequence(int sequence) {
  set_length(sequence, 0);
  sequences_[sequence].used = false;
}

int PagedKvCache::length(int sequence) const {
  return sequences_[sequence].length;
}

void PagedKvCache::set_length(int sequence, int length) {
  Sequence& s = sequences_[sequence];
  MLX_FLASH_CHECK(
      s.used && length >= 0 &&
      length <= static_cast<int>(s.pages.size()) * kKvPageTokens);
  const size_t needed = div_up(length, kKvPageTokens);
  if (std::exchange(s.length, length) < length) {
    return;
  }
  while (s.pages.size() > needed) {
    release(s.pages.back());
    s.pages.pop_back();
  }
}

bool PagedKvCache::reserve(int sequence, int length) {
  Sequence& s = sequences_[sequence];
  const size_t needed = div_up(length, kKvPageTokens);
  // The page that will be written first, where others use it.
  const size_t first = s.length / kKvPageTokens;
  const bool copies =
      length > s.length && first < s.pages.size() && users_[s.pages[first]] > 1;
  if (needed + (copies ? 1 : 0) > s.pages.size() + free_.size()) {
    return false;
  }
  if (copies) {
    const uint32_t shared = std::exchange(s.pages[first], take_page());
    std::memcpy(
        memory_.data() + s.pages[first] * page_bytes_,
        memory_.data() + shared * page_bytes_,
        page_bytes_);
    release(shared);
  }
  while (s.pages.size() < needed) {
    s.pages.push_back(take_page());
  }
  return true;
}

uint32_t PagedKvCache::take_page() {
  const uint32_t page = free_.back();
  free_.pop_back();
  users_[page] = 1;
  return page;
}

void PagedKvCache::begin_with(int sequence, std::span<const uint32_t> pages) {
  Sequence& s = sequences_[sequence];
  MLX_FLASH_CHECK(s.used && s.pages.empty());
  for (const uint32_t page : pages) {
    retain(page);
    s.pages.push_back(page);
  }
  s.length = static_cast<int>(pages.size()) * kKvPageTokens;
}

void PagedKvCache::retain(uint32_t page) {
  MLX_FLASH_CHECK(users_[page] > 0);
  ++users_[page];
}

void PagedKvCache::release(uint32_t page) {
  MLX_FLASH_CHECK(users_[page] > 0);
  if (--users_[page] == 0) {
    free_.push_back(page);
  }
}

size_t PagedKvCache::page_count(int sequence) const {
  return sequences_[sequence].pages.size();
}

void PagedKvCache::append_pages(
    int sequence,
    int layer,
    std::vector<std::byte*>& pages) const {
  for (const uint32_t page : sequences_[sequence].pages) {
    pages.push_back(
        memory_.data() + page * page_bytes_ + layer * layout_.page_bytes());
  }
}

} // namespace mlx_flash::ops
