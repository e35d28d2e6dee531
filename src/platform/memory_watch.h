// Follows the peak of this process's memory as the budget counts it: what is
// its own (anonymous memory). Clean program code is left out: the system
// shares it among all who run it and takes it back at will, and the peak that
// the system keeps (VmHWM) cannot tell the two apart.
//
// Between samples the peak is not seen, so whoever knows of memory that came
// and went says so.
//
// Thread rule: sample() from one thread at a time; peak_bytes() from any.
#pragma once

#include <atomic>
#include <cstdint>

namespace mlx_flash {

class MemoryWatch {
 public:
  // Everything up to now counts by its upper bound, peak_memory_bytes() of
  // platform/memory_facts.h: start-up allocates and frees unseen.
  MemoryWatch();

  // `transient_bytes` were used at once and given back since the last sample.
  void sample(uint64_t transient_bytes = 0);

  uint64_t peak_bytes() const {
    return peak_bytes_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> peak_bytes_;
};

// Anonymous memory of this process now (macOS: its physical footprint).
uint64_t anonymous_memory_bytes();

} // namespace mlx_flash
