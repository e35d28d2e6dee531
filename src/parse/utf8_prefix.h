// Whether bytes are UTF-8, as they arrive one by one.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>

namespace mlx_flash::parse {

class Utf8Prefix {
 public:
  enum class Result {
    whole, // ends a character
    partial, // is within one
    bad, // cannot follow; the next byte begins anew
  };
  Result push(char byte);

 private:
  int left_ = 0; // bytes that the character still needs
  // Between which the next of them must lie: overlong forms, surrogates and
  // what is above U+10FFFF differ from characters in the second byte.
  uint8_t least_ = 0x80;
  uint8_t most_ = 0xBF;
};

} // namespace mlx_flash::parse
