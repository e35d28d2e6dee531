// For tests: until another thread has done its part.
#pragma once

#include <chrono>
#include <thread>

namespace mlx_flash {

// Yields until `done()`; false when it takes longer than `most`.
template <typename Done>
bool wait_for(
    const Done& done,
    std::chrono::seconds most = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + most;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

} // namespace mlx_flash
