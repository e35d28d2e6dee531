// Times that are written out, for templates that print today's date.
#pragma once

#include <cstdint>
#include <string>

namespace mlx_flash::cli {

// "2024-07-26" or "2024-07-26T08:30:00", local time, or with "Z" or an offset
// such as "+02:00" that moment. In seconds since the epoch, shifted to local
// time, as chat templates want it. Throws Error(invalid_argument).
int64_t parse_iso_time(const std::string& text);

} // namespace mlx_flash::cli
