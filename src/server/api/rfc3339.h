// Moments as some dialects write them.
//
// Thread rule: a pure function.
#pragma once

#include <chrono>
#include <string>

namespace mlx_flash::server {

// "2026-11-22T22:07:00.123456789Z"
std::string rfc3339(std::chrono::system_clock::time_point time);

} // namespace mlx_flash::server
