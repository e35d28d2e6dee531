// Beginnings of texts whose keys and values stay in the KV cache after their
// session has gone on or ended, so that a prompt that begins alike is not read
// again. It takes no memory of its own: its pages are those that nobody else
// needs, and it gives them back when somebody does.
//
// Thread rule: the engine thread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mlx_flash/generation.h"
#include "ops/paged_kv_cache.h"
#include "residency/prefix_index.h"

namespace mlx_flash {

class PrefixCache {
 public:
  explicit PrefixCache(ops::PagedKvCache& cache);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Lets an empty sequence begin with the pages of what is known of `tokens`,
  // and returns how many tokens that is: whole pages, and never all, since
  // something must be left to read for there to be logits.
  size_t begin(int sequence, std::span<const TokenId> tokens);

  // Takes the whole pages of a sequence in, which has read `tokens`.
  void keep(int sequence, std::span<const TokenId> tokens);

  // Gives back the page that was used least recently and that no sequence
  // uses. False if there is none.
  bool give_back_page();
  // As many times as it could.
  size_t spare_pages() const;

  size_t pages() const {
    return index_.size();
  }

 private:
  ops::PagedKvCache& cache_;
  PrefixIndex index_;
};

} // namespace mlx_flash
