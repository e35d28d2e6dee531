#include "server/api/lark_operators.h"

#include <doctest/doctest.h>

namespace mlx_flash::server {

TEST_CASE("lark: intersections and complements are found") {
  CHECK(has_set_operators("start: A\nA: /a/ & /b/"));
  CHECK(has_set_operators("start: A\nA: ~/a/"));
  CHECK(has_set_operators("start: A\nA: ~ B | ~(C)"));
  CHECK(has_set_operators("start: A\nA: \"x\\\"\" & B"));
  CHECK(has_set_operators("start: A\nA: \"a\"i & B"));
  CHECK(has_set_operators("# \"\nstart: A\nA: B & C\n# \""));
  CHECK(has_set_operators("// /\nstart: A\nA: B & C\n// /"));
  CHECK(has_set_operators("start: A\nA: /\"/ & /\"/"));
  CHECK(has_set_operators("start: %json {\"a\": \"\\\\\"} | ~A"));
  CHECK(has_set_operators("~"));
}

TEST_CASE("lark: what only looks like them is left alone") {
  CHECK_FALSE(has_set_operators(""));
  CHECK_FALSE(has_set_operators("start: \"a & ~b\" \"\\\"&\" /[&~]\\/&/"));
  CHECK_FALSE(has_set_operators("start: a~3 a~2..4 a ~ 5 // a & b"));
  CHECK_FALSE(has_set_operators("start: a # & ~b"));
  CHECK_FALSE(has_set_operators("start: \"no end &"));
  CHECK_FALSE(has_set_operators("start: /no end &\\"));
}

} // namespace mlx_flash::server
