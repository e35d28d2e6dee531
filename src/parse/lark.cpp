#include "parse/lark.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

std::string lark_string(std::string_view text) {
  // All that is not printable ASCII is escaped, as a literal must have it.
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string lark_regex(std::string_view regex) {
  if (regex.empty()) {
    return "\"\"";
  }
  std::string text = "/";
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '\\' && i + 1 < regex.size()) {
      text += regex[i++];
    } else if (regex[i] == '/') {
      text += '\\';
    }
    text += regex[i];
  }
  return text + "/";
}

std::string escape_regex(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~/").find(c) !=
        std::string_view::npos) {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

std::string lark_text_without(std::initializer_list<std::string> regexes) {
  std::string text = "/(?s:.*)/";
  for (const std::string& regex : regexes) {
    text += " & ~" + lark_regex(regex + "(?s:.*)");
  }
  return text;
}

std::string lark_json(Json schema) {
  schema["x-guidance"] = {
      {"whitespace_flexible", false},
      {"item_separator", ", ?"},
      {"key_separator", ": ?"}};
  return "%json " + schema.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace mlx_flash::parse
