#include "base/rfc3339.h"

#include <fmt/format.h>

#include <ctime>

namespace mlx_flash {

std::string rfc3339(std::chrono::system_clock::time_point moment, int digits) {
  using namespace std::chrono;
  const auto second = floor<seconds>(moment);
  const std::time_t time = system_clock::to_time_t(second);
  std::tm utc{};
  gmtime_r(&time, &utc);
  const std::string fraction =
      fmt::format("{:09}", duration_cast<nanoseconds>(moment - second).count());
  return fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:.{}}Z",
      utc.tm_year + 1900,
      utc.tm_mon + 1,
      utc.tm_mday,
      utc.tm_hour,
      utc.tm_min,
      utc.tm_sec,
      fraction,
      digits);
}

} // namespace mlx_flash
