// For tests: how much memory something takes at its peak. Linux only in
// effect; elsewhere, and under sanitizers, whose own memory would count, it
// measures nothing.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "platform/memory_facts.h"
#include "platform/sanitized.h"

namespace mlx_flash {

class PeakMemory {
 public:
  PeakMemory() {
    configure_allocator(); // as main() does
    release_free_memory();
    // Writing 5 sets the peak to what is resident now (proc(5)).
    std::ofstream("/proc/self/clear_refs") << "5";
    before_ = peak_bytes();
  }

  uint64_t grown_bytes() const {
    const uint64_t now = peak_bytes();
    return !kSanitized && now > before_ ? now - before_ : 0;
  }

 private:
  static uint64_t peak_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) {
        return std::stoull(line.substr(6)) * 1024;
      }
    }
    return 0;
  }

  uint64_t before_ = 0;
};

} // namespace mlx_flash
