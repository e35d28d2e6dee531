#include "server/api/lark_operators.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace mlx_flash::server {

namespace {

// Behind the text or regular expression that `quote` begins at `at`.
size_t behind_quoted(std::string_view text, size_t at, char quote) {
  for (++at; at < text.size() && text[at] != quote; ++at) {
    at += text[at] == '\\' ? 1 : 0;
  }
  return at + 1;
}

bool begins_comment(std::string_view rest) {
  return rest.starts_with('#') || rest.starts_with("//");
}

bool is_count(std::string_view rest) {
  const size_t at = rest.find_first_not_of(" \t");
  return at != std::string_view::npos &&
      std::isdigit(static_cast<unsigned char>(rest[at])) != 0;
}

} // namespace

bool has_set_operators(std::string_view grammar) {
  for (size_t at = 0; at < grammar.size();) {
    const char c = grammar[at];
    if (begins_comment(grammar.substr(at))) {
      at = std::min(grammar.find('\n', at), grammar.size());
    } else if (c == '"' || c == '/') {
      at = behind_quoted(grammar, at, c);
    } else if (c == '&' || (c == '~' && !is_count(grammar.substr(at + 1)))) {
      return true;
    } else {
      ++at;
    }
  }
  return false;
}

} // namespace mlx_flash::server
