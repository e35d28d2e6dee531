// Whether JSON from users and models is safe to work with: nested no deeper
// than kMaxJsonDepth, since printing and copying trees recurses.
#pragma once

#include <string_view>

namespace mlx_flash {

constexpr int kMaxJsonDepth = 100;

// Throws Error(invalid_argument) that begins with `what` and names the place.
void require_bounded_json(std::string_view text, const char* what);

} // namespace mlx_flash
