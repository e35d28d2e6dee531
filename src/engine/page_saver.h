// Writes pages of the KV cache to a page store, on a thread of its own, while
// the engine goes on. A page that is to be written is kept as it is until it
// has been.
//
// Thread rule: the engine thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_set>
#include <vector>

#include "mlx_flash/generation.h"
#include "ops/paged_kv_cache.h"
#include "storage/page_store.h"

namespace mlx_flash {

class PageSaver {
 public:
  PageSaver(ops::PagedKvCache& cache, PageStore& store);
  // Writes what is left, as far as that takes no longer than kLastSeconds.
  ~PageSaver();
  PageSaver(const PageSaver&) = delete;
  PageSaver& operator=(const PageSaver&) = delete;

  static constexpr double kLastSeconds = 2;

  // The last `pages.size()` whole pages of a text, with all its tokens.
  void save(std::span<const TokenId> tokens, std::span<const uint32_t> pages);

  // A text begins with these tokens once more.
  void use(std::span<const TokenId> tokens);

  // Lets go of the pages that have been written.
  void settle();
  // The same, once there is one more, or after so many seconds. False if none
  // has been written by then.
  bool wait(double seconds);
  // Lets go of a page that is not being written yet and never will be, the
  // latest one of those that `may_go`. False if there is none.
  bool take_back(const std::function<bool(uint32_t page)>& may_go);

  // It is not let go yet.
  bool is_pending(uint32_t page) const {
    return pending_.count(page) > 0;
  }

 private:
  // Of a text one page, or the note that it is used.
  struct Task {
    std::shared_ptr<const std::vector<TokenId>> text;
    size_t length = 0; // of the text, up to the page's end
    std::optional<uint32_t> page;
  };

  void add(Task task);
  void work();
  void carry_out(const Task& task);
  void release(std::vector<uint32_t> written);

  ops::PagedKvCache& cache_;
  PageStore& store_;
  std::unordered_set<uint32_t> pending_; // pages

  std::mutex mutex_; // of what follows
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::vector<uint32_t> written_;
  bool stopping_ = false;
  double stop_at_ = 0; // seconds of now_seconds()
  std::thread thread_;
};

} // namespace mlx_flash
