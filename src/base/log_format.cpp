#include "base/log_format.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

#include "base/utf8.h"

namespace mlx_flash::log {

namespace {

bool is_control(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

void append_escape(std::string& line, uint32_t code) {
  switch (code) {
    case '\n':
      line += "\\n";
      break;
    case '\r':
      line += "\\r";
      break;
    case '\t':
      line += "\\t";
      break;
    default:
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", code);
  }
}

} // namespace

void append_line_text(std::string& line, std::string_view text) {
  while (!text.empty()) {
    const Utf8Character first = first_character(text);
    if (first.bytes == 0) {
      fmt::format_to(
          std::back_inserter(line),
          "\\x{:02x}",
          static_cast<uint8_t>(text.front()));
    } else if (is_control(first.code)) {
      append_escape(line, first.code);
    } else {
      line += text.substr(0, first.bytes);
    }
    text.remove_prefix(first.bytes == 0 ? 1 : first.bytes);
  }
}

void append_json_text(std::string& line, std::string_view text) {
  line += '"';
  while (!text.empty()) {
    const Utf8Character first = first_character(text);
    if (first.bytes == 0) {
      line += "\xef\xbf\xbd";
    } else if (first.code == '"' || first.code == '\\') {
      line += '\\';
      line += text.front();
    } else if (is_control(first.code)) {
      append_escape(line, first.code);
    } else {
      line += text.substr(0, first.bytes);
    }
    text.remove_prefix(first.bytes == 0 ? 1 : first.bytes);
  }
  line += '"';
}

} // namespace mlx_flash::log
