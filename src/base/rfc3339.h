// Moments as text, in UTC: RFC 3339, section 5.6.
//
// Thread rule: any thread.
#pragma once

#include <chrono>
#include <string>

namespace mlx_flash {

// Such as "2026-11-22T22:07:00.000000123Z", with so many digits of a second,
// from 1 to 9; what is beyond them is cut.
std::string rfc3339(
    std::chrono::system_clock::time_point moment,
    int digits = 9);

} // namespace mlx_flash
