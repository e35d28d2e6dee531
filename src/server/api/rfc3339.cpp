#include "server/api/rfc3339.h"

#include <fmt/format.h>

#include <ctime>

namespace mlx_flash::server {

std::string rfc3339(std::chrono::system_clock::time_point time) {
  using namespace std::chrono;
  const auto second = floor<seconds>(time);
  const std::time_t moment = system_clock::to_time_t(second);
  std::tm utc{};
  gmtime_r(&moment, &utc);
  return fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
      utc.tm_year + 1900,
      utc.tm_mon + 1,
      utc.tm_mday,
      utc.tm_hour,
      utc.tm_min,
      utc.tm_sec,
      duration_cast<nanoseconds>(time - second).count());
}

} // namespace mlx_flash::server
