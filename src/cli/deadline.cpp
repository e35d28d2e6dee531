#include "cli/deadline.h"

#include <utility>

namespace mlx_flash::cli {

Deadline::Deadline(std::function<void()> expired)
    : expired_(std::move(expired)), watcher_([this] { watch(); }) {}

Deadline::~Deadline() {
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
  }
  changed_.notify_all();
  watcher_.join();
}

void Deadline::set(double seconds) {
  const Clock::time_point end = Clock::now() +
      std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(seconds));
  {
    std::lock_guard lock(mutex_);
    if (end_ && *end_ <= end) {
      return;
    }
    end_ = end;
  }
  changed_.notify_all();
}

void Deadline::watch() {
  std::unique_lock lock(mutex_);
  while (!gone_) {
    if (!end_) {
      changed_.wait(lock);
    } else if (Clock::now() < *end_) {
      changed_.wait_until(lock, *end_);
    } else {
      lock.unlock();
      expired_();
      return;
    }
  }
}

} // namespace mlx_flash::cli
