// Monotonic time, and the wall's.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

namespace mlx_flash {

inline double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// What local time is ahead of UTC at a moment, in seconds since the epoch.
inline int64_t local_offset_seconds(int64_t moment) {
  const auto time = static_cast<std::time_t>(moment);
  std::tm local{};
  localtime_r(&time, &local);
  return local.tm_gmtoff;
}

// Seconds since the epoch as a clock on the wall here would count them.
inline int64_t local_now_seconds() {
  const auto now = static_cast<int64_t>(std::time(nullptr));
  return now + local_offset_seconds(now);
}

} // namespace mlx_flash
