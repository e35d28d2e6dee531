// A thread that does one task after another: for what would hold up the loop
// or keep a worker from its requests, such as opening an engine.
//
// Thread rule: post() from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "server/loop.h"

namespace mlx_flash::server {

class BackgroundThread {
 public:
  BackgroundThread();
  // Does what was posted, and waits for that.
  ~BackgroundThread();
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  // In order. How much is posted is bounded by whoever posts. A task does not
  // throw.
  void post(Task task);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool closed_ = false;
  std::thread thread_; // the last, because it uses the others
};

} // namespace mlx_flash::server
