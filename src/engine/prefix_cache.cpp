#include "engine/prefix_cache.h"

#include <algorithm>

#include "base/clock.h"

namespace mlx_flash {

namespace {

// Seconds after which a disk is taken to have failed.
constexpr double kLongWrite = 60;

} // namespace

PrefixCache::PrefixCache(ops::PagedKvCache& cache, PageStore* store)
    : cache_(cache),
      store_(store),
      saver_(store ? std::make_unique<PageSaver>(cache, *store) : nullptr),
      index_(ops::kKvPageTokens) {}

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

size_t PrefixCache::stored(std::span<const TokenId> tokens, size_t known)
    const {
  if (!store_ || tokens.empty()) {
    return 0;
  }
  constexpr size_t kPage = ops::kKvPageTokens;
  const size_t found =
      store_->find(tokens.first(tokens.size() - 1), known / kPage);
  return found * kPage;
}

void PrefixCache::use(std::span<const TokenId> tokens) {
  if (saver_ && !tokens.empty()) {
    saver_->use(tokens);
  }
}

bool PrefixCache::restore(int sequence, std::span<const TokenId> tokens) {
  const uint32_t page =
      cache_.pages(sequence)[tokens.size() / ops::kKvPageTokens - 1];
  if (!store_->read(tokens, cache_.page(page))) {
    return false;
  }
  restored_tokens_ += ops::kKvPageTokens;
  return true;
}

void PrefixCache::keep(int sequence, std::span<const TokenId> tokens) {
  const size_t count = tokens.size() / ops::kKvPageTokens;
  const auto whole = cache_.pages(sequence).first(count);
  const auto taken = index_.insert(tokens, whole);
  for (const uint32_t page : taken) {
    cache_.retain(page);
  }
  if (saver_) {
    saver_->settle();
    if (!taken.empty()) {
      // They are the last ones: no page is known whose parent is not.
      saver_->save(tokens.first(count * ops::kKvPageTokens), taken);
    }
  }
}

bool PrefixCache::give_back_page() {
  if (saver_) {
    saver_->settle();
  }
  while (!evict()) {
    // Only for what is free once it is written.
    const auto pages = spare();
    if (!saver_ || pages.empty() || !free_from_saver(pages)) {
      return false;
    }
  }
  return true;
}

bool PrefixCache::free_from_saver(const std::vector<uint32_t>& pages) {
  const double begin = now_seconds();
  const bool written = may_wait_ > 0 && saver_->wait(may_wait_);
  may_wait_ -= now_seconds() - begin;
  // What is being written just now is the last that is waited for.
  return written || saver_->take_back([&](uint32_t page) {
    return std::find(pages.begin(), pages.end(), page) != pages.end();
  }) ||
      saver_->wait(kLongWrite);
}

bool PrefixCache::part_with_page(int sequence) {
  const auto pages = cache_.pages(sequence);
  const size_t next = static_cast<size_t>(cache_.length(sequence)) /
      static_cast<size_t>(ops::kKvPageTokens);
  if (next >= pages.size()) {
    return false;
  }
  const auto is_it = [page = pages[next]](uint32_t each) {
    return each == page;
  };
  while (saver_ && saver_->is_pending(pages[next])) {
    if (!saver_->take_back(is_it) && !saver_->wait(kLongWrite)) {
      return false;
    }
  }
  const auto page = index_.evict(is_it);
  if (page) {
    cache_.release(*page);
  }
  return page.has_value();
}

bool PrefixCache::evict() {
  const auto page =
      index_.evict([this](uint32_t each) { return cache_.users(each) == 1; });
  if (page) {
    cache_.release(*page);
  }
  return page.has_value();
}

// A page that is being written can be had for some waiting.
bool PrefixCache::is_spare(uint32_t page) const {
  const uint32_t saving = saver_ && saver_->is_pending(page) ? 1 : 0;
  return cache_.users(page) == 1 + saving;
}

std::vector<uint32_t> PrefixCache::spare() const {
  return index_.removable([this](uint32_t page) { return is_spare(page); });
}

} // namespace mlx_flash
