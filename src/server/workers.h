// The server's worker threads, a fixed number with a bounded queue.
//
// Thread rule: post() from any thread; stop() and the destructor not from a
// worker.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "server/loop.h"

namespace mlx_flash::server {

inline constexpr size_t kMostWorkers = 4; // of a server

class WorkerPool : public Workers {
 public:
  WorkerPool(size_t threads, size_t most_waiting);
  ~WorkerPool() override; // stops
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // What a task throws is logged and forgotten.
  [[nodiscard]] bool post(Task task) override;

  // Waits for the tasks that have begun and drops those that wait. Nothing is
  // taken from here on.
  void stop();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  const size_t most_waiting_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

} // namespace mlx_flash::server
