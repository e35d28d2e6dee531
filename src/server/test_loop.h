// For tests: a loop that does only what its test tells it to, on a clock that
// the test moves, and workers that are part of it. So a test without threads of
// its own is the same each time it runs.
//
// Thread rule: post() from any thread; what runs tasks belongs to the test's.
#pragma once

#include <algorithm>
#include <chrono>
#include <compare>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "server/loop.h"

namespace mlx_flash::server {

class ManualLoop : public Loop {
 public:
  void post(Task task) override {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }

  Task post_after(double seconds, Task task) override {
    std::lock_guard lock(mutex_);
    const Due due{now_ + seconds, ++timers_so_far_};
    timers_.emplace(due, std::move(task));
    return [this, due] {
      Task dropped; // destroyed without the lock
      std::lock_guard calling_off(mutex_);
      if (const auto found = timers_.find(due); found != timers_.end()) {
        dropped = std::move(found->second);
        timers_.erase(found);
      }
    };
  }

  // Does what was posted, and what that posts, until nothing is left. Returns
  // how many tasks that were.
  size_t run() {
    size_t count = 0;
    while (run_one(std::chrono::milliseconds(0))) {
      ++count;
    }
    return count;
  }

  // The same until `done()`, waiting for what other threads post; false when
  // that takes longer than `most`.
  template <typename Done>
  bool run_until(
      const Done& done,
      std::chrono::seconds most = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + most;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) {
        return false;
      }
      // Short, because what it waits for need not come with a task.
      run_one(std::chrono::milliseconds(1));
    }
    return true;
  }

  // Lets the clock go on, and does what is due by then, in order.
  void advance(double seconds) {
    run();
    const double end = now_ + seconds;
    for (;;) {
      Task task;
      {
        std::lock_guard lock(mutex_);
        if (timers_.empty() || timers_.begin()->first.time > end) {
          now_ = end;
          break;
        }
        now_ = std::max(now_, timers_.begin()->first.time);
        task = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
      }
      task();
      run();
    }
  }

  // Timers that have not gone off.
  size_t timers() const {
    std::lock_guard lock(mutex_);
    return timers_.size();
  }

 private:
  bool run_one(std::chrono::milliseconds wait) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, wait, [&] { return !tasks_.empty(); });
      if (tasks_.empty()) {
        return false;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
    return true;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  struct Due {
    double time = 0;
    uint64_t number = 0; // as they came
    auto operator<=>(const Due&) const = default;
  };
  std::map<Due, Task> timers_;
  uint64_t timers_so_far_ = 0;
  double now_ = 0;
};

// Work that is done when the loop runs, in order.
class LoopWorkers : public Workers {
 public:
  explicit LoopWorkers(Loop& loop) : loop_(loop) {}

  bool post(Task task) override {
    if (refuse) {
      return false;
    }
    loop_.post(std::move(task));
    return true;
  }

  bool refuse = false; // as if too much waited

 private:
  Loop& loop_;
};

} // namespace mlx_flash::server
