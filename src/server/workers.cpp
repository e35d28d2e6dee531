#include "server/workers.h"

#include <exception>
#include <utility>

#include "base/log.h"
#include "server/api_error.h"

namespace mlx_flash::server {

WorkerPool::WorkerPool(size_t threads, size_t most_waiting)
    : most_waiting_(most_waiting) {
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { work(); });
  }
}

WorkerPool::~WorkerPool() {
  stop();
}

bool WorkerPool::post(Task task) {
  std::lock_guard lock(mutex_);
  if (stopped_ || tasks_.size() >= most_waiting_) {
    return false;
  }
  tasks_.push_back(std::move(task));
  changed_.notify_one();
  return true;
}

void WorkerPool::stop() {
  std::deque<Task> dropped; // destroyed without the lock: they may post
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(tasks_);
    threads.swap(threads_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopped_ || !tasks_.empty(); });
    if (stopped_) {
      return;
    }
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    try {
      task();
    } catch (...) {
      const ApiError error = to_api_error(std::current_exception());
      log::warn("[server] a worker's task failed: {}", error.what());
    }
    task = nullptr; // what it holds goes without the lock
    lock.lock();
  }
}

} // namespace mlx_flash::server
