#include "base/utf8.h"

namespace mlx_flash {

namespace {

// By its first byte; 0 for one that begins none.
size_t character_bytes(uint8_t lead) {
  return lead < 0x80                ? 1
      : lead >= 0xc2 && lead < 0xe0 ? 2
      : lead >= 0xe0 && lead < 0xf0 ? 3
      : lead >= 0xf0 && lead < 0xf5 ? 4
                                    : 0;
}

} // namespace

Utf8Character first_character(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t bytes = character_bytes(lead);
  if (bytes == 0 || bytes > text.size()) {
    return {};
  }
  uint32_t code = bytes == 1 ? lead : lead & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if ((byte & 0xc0) != 0x80) {
      return {};
    }
    code = code << 6 | (byte & 0x3f);
  }
  const bool overlong =
      (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (overlong || surrogate || code > 0x10ffff) {
    return {};
  }
  return {code, bytes};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = first_character(text).bytes;
    if (bytes == 0) {
      return false;
    }
    text.remove_prefix(bytes);
  }
  return true;
}

} // namespace mlx_flash
