#include "base/utf8.h"

#include <doctest/doctest.h>

#include <string>

using namespace mlx_flash;

TEST_CASE("utf8: characters of all lengths") {
  CHECK(first_character("ab").code == 'a');
  CHECK(first_character("\xc3\xa9!").code == 0xe9);
  CHECK(first_character("\xe2\x82\xac!").code == 0x20ac);
  CHECK(first_character("\xf0\x9f\x98\x80!").code == 0x1f600);
  CHECK(first_character("\xf4\x8f\xbf\xbf").code == 0x10ffff);
  CHECK(first_character(std::string_view("\0", 1)).bytes == 1);
  CHECK(first_character("\xf0\x9f\x98\x80!").bytes == 4);
  CHECK(first_character("").bytes == 0);
  CHECK(is_utf8(""));
  CHECK(is_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

TEST_CASE("utf8: what is no character is none") {
  const std::string bytes[] = {
      "\x80", // no first byte
      "\xc0\xaf", // overlong
      "\xc1\xbf",
      "\xe0\x80\xaf",
      "\xf0\x80\x80\xaf",
      "\xed\xa0\x80", // a surrogate
      "\xf4\x90\x80\x80", // beyond U+10FFFF
      "\xf5\x80\x80\x80",
      "\xff\xfe",
      "\xe2\x82", // cut off
      "\xc3(",
  };
  for (const std::string& each : bytes) {
    CAPTURE(each.size());
    CHECK(first_character(each).bytes == 0);
    CHECK_FALSE(is_utf8("a" + each));
  }
}
