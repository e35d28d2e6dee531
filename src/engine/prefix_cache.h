// Beginnings of texts whose keys and values stay in the KV cache after their
// session has gone on or ended, so that a prompt that begins alike is not read
// again. It takes no memory of its own: its pages are those that nobody else
// needs, and it gives them back when somebody does. With a page store they are
// written to disk too, and found there by later processes.
//
// Thread rule: the engine thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_saver.h"
#include "mlx_flash/generation.h"
#include "ops/paged_kv_cache.h"
#include "residency/prefix_index.h"

namespace mlx_flash {

class PrefixCache {
 public:
  // `store` may be null.
  PrefixCache(ops::PagedKvCache& cache, PageStore* store);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Lets an empty sequence begin with the pages of what is known of `tokens`,
  // and returns how many tokens that is: whole pages, and never all, since
  // something must be left to read for there to be logits.
  size_t begin(int sequence, std::span<const TokenId> tokens);

  // How many tokens behind the first `known` the store has pages of.
  size_t stored(std::span<const TokenId> tokens, size_t known) const;
  // A text begins with these tokens, some of them stored.
  void use(std::span<const TokenId> tokens);
  // Reads from the store the page that the sequence, of all `tokens` but the
  // last page of them, goes on with; its room is reserved. False if it is no
  // longer there.
  bool restore(int sequence, std::span<const TokenId> tokens);

  // Takes the whole pages of a sequence in, which has read `tokens`.
  void keep(int sequence, std::span<const TokenId> tokens);

  // Gives back the page that was used least recently and that no sequence
  // uses, which may have to wait for a page to be written. False if there is
  // none.
  bool give_back_page();
  // As many times as it could.
  size_t spare_pages() const {
    return spare().size();
  }
  // Leaves the page that a sequence writes to next to it alone. False if it is
  // not kept here.
  bool part_with_page(int sequence);

  // A step begins, which is held up by writes no longer than kMostWaiting in
  // all: pages that are needed before their turn are not written then.
  void begin_step() {
    may_wait_ = kMostWaiting;
  }
  static constexpr double kMostWaiting = 0.5; // seconds

  size_t pages() const {
    return index_.size();
  }
  // Tokens that came from the store.
  uint64_t restored_tokens() const {
    return restored_tokens_;
  }

 private:
  bool evict();
  // Waits for one of these, or takes it back.
  bool free_from_saver(const std::vector<uint32_t>& pages);
  bool is_spare(uint32_t page) const;
  std::vector<uint32_t> spare() const;

  ops::PagedKvCache& cache_;
  PageStore* const store_;
  std::unique_ptr<PageSaver> saver_; // with a store
  PrefixIndex index_;
  double may_wait_ = kMostWaiting;
  uint64_t restored_tokens_ = 0;
};

} // namespace mlx_flash
