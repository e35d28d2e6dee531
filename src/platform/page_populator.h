// Gives memory its pages before it is used. A page that is first touched has
// to be found and cleared; where a read into fresh memory is submitted, the
// submitting thread does that, one page after the other, and everything waits
// for it. Here other threads do, side by side. They have the priority of all
// others: a thread that has to wait for a processor with the process's map of
// memory locked would make all wait.
//
// Thread rule: one thread calls populate().
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace mlx_flash {

// Threads that are of use: clearing pages is bound by memory, beyond a few.
int populating_threads();

class PagePopulator {
 public:
  // With `threads` of its own; at least 1.
  explicit PagePopulator(int threads);
  // Leaves out what has not begun.
  ~PagePopulator();
  PagePopulator(const PagePopulator&) = delete;
  PagePopulator& operator=(const PagePopulator&) = delete;

  // Queues the whole pages within `memory`, which must outlive this. Contents
  // stay as they are, also while others write to them. Returns at once. A
  // system that cannot do it leaves pages to their first use.
  void populate(std::span<std::byte> memory);

  // Waits until everything queued is done, for who must see its effect.
  void finish();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::span<std::byte>> queue_;
  size_t busy_ = 0; // threads in the midst of a piece
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

} // namespace mlx_flash
