#include "engine/prefix_cache.h"

namespace mlx_flash {

PrefixCache::PrefixCache(ops::PagedKvCache& cache)
    : cache_(cache), index_(ops::kKvPageTokens) {}

PrefixCache::~PrefixCache() {
  while (const auto page = index_.evict([](uint32_t) { return true; })) {
    cache_.release(*page);
  }
}

size_t PrefixCache::begin(int sequence, std::span<const TokenId> tokens) {
  if (tokens.empty()) {
    return 0;
  }
  const auto pages = index_.find(tokens.first(tokens.size() - 1));
  cache_.begin_with(sequence, pages);
  return pages.size() * ops::kKvPageTokens;
}

void PrefixCache::keep(int sequence, std::span<const TokenId> tokens) {
  const auto whole =
      cache_.pages(sequence).first(tokens.size() / ops::kKvPageTokens);
  for (const uint32_t page : index_.insert(tokens, whole)) {
    cache_.retain(page);
  }
}

bool PrefixCache::give_back_page() {
  const auto page =
      index_.evict([this](uint32_t each) { return cache_.users(each) == 1; });
  if (page) {
    cache_.release(*page);
  }
  return page.has_value();
}

size_t PrefixCache::spare_pages() const {
  size_t spare = 0;
  index_.for_each(
      [&](uint32_t page) { spare += cache_.users(page) == 1 ? 1 : 0; });
  return spare;
}

} // namespace mlx_flash
