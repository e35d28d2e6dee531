// By when the program has to have ended. For work that cannot be cut short:
// the program then ends under it.
//
// Thread rule: set() from any thread. What is called is called on a thread of
// its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace mlx_flash::cli {

class Deadline {
 public:
  // `expired` is called when the time has come and this is still there; it
  // ends the program.
  explicit Deadline(std::function<void()> expired);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  // So many seconds from now, unless it is earlier already.
  void set(double seconds);

 private:
  using Clock = std::chrono::steady_clock;

  void watch();

  const std::function<void()> expired_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Clock::time_point> end_;
  bool gone_ = false;
  std::thread watcher_;
};

} // namespace mlx_flash::cli
