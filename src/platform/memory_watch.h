// Follows the peak of this process's memory as the budget counts it: what is
// its own (anonymous memory). Clean program code is left out: the system
// shares it among all who run it and takes it back at will, and the peak that
// the system keeps (VmHWM) cannot tell the two apart.
//
// The peak is sampled, not counted: what comes and goes between two samples is
// not seen, so whoever knows of such memory says so. The proof that the budget
// is kept is a run in a memory cgroup of that size.
//
// Thread rule: all from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace mlx_flash {

class MemoryWatch {
 public:
  // `transient_bytes` were used at once and given back since the last sample.
  void sample(uint64_t transient_bytes = 0);

  // Seen by another watch.
  void include(uint64_t bytes);

  uint64_t peak_bytes() const {
    return peak_bytes_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> peak_bytes_ = 0;
};

// Samples each millisecond while it lives: for loading, where parsers allocate
// and free at will.
class MemoryFollower {
 public:
  MemoryFollower();
  ~MemoryFollower();
  MemoryFollower(const MemoryFollower&) = delete;
  MemoryFollower& operator=(const MemoryFollower&) = delete;

  // The most that was seen, now included.
  uint64_t peak_bytes() const;

 private:
  void follow();

  MemoryWatch watch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

// Anonymous memory of this process now (macOS: its physical footprint).
uint64_t anonymous_memory_bytes();

} // namespace mlx_flash
