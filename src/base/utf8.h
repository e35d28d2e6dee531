// Characters in bytes that may not be text.
//
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mlx_flash {

struct Utf8Character {
  uint32_t code = 0;
  size_t bytes = 0; // 0: there is none
};

// The first character of `text`, if it begins with a whole one: no overlong
// forms, no surrogates, nothing beyond U+10FFFF.
Utf8Character first_character(std::string_view text);

bool is_utf8(std::string_view text);

} // namespace mlx_flash
