// What counts as white space in answers and in JSON.
#pragma once

#include <string_view>

namespace mlx_flash::parse {

inline constexpr std::string_view kSpaces = " \n\r\t";

inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

inline std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  return begin == std::string_view::npos
      ? std::string_view()
      : text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

} // namespace mlx_flash::parse
