#include "parse/utf8_prefix.h"

namespace mlx_flash::parse {

Utf8Prefix::Result Utf8Prefix::push(char byte) {
  const auto value = static_cast<uint8_t>(byte);
  if (left_ > 0) {
    const bool fits = value >= least_ && value <= most_;
    left_ = fits ? left_ - 1 : 0;
    least_ = 0x80;
    most_ = 0xBF;
    return !fits ? Result::bad : left_ > 0 ? Result::partial : Result::whole;
  }
  if (value < 0x80) {
    return Result::whole;
  }
  if (value < 0xC2 || value > 0xF4) {
    return Result::bad;
  }
  left_ = value < 0xE0 ? 1 : value < 0xF0 ? 2 : 3;
  least_ = value == 0xE0 ? 0xA0 : value == 0xF0 ? 0x90 : 0x80;
  most_ = value == 0xED ? 0x9F : value == 0xF4 ? 0x8F : 0xBF;
  return Result::partial;
}

} // namespace mlx_flash::parse
