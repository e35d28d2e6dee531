#include "engine/bounded_json.h"

#include <doctest/doctest.h>

#include <string>

#include "engine/tight_schema.h"
#include "mlx_flash/error.h"

using namespace mlx_flash;

namespace {

std::string nested(int depth) {
  const auto n = static_cast<size_t>(depth);
  return std::string(n, '[') + std::string(n, ']');
}

std::string error_of(const std::string& text) {
  try {
    require_bounded_json(text, "[test] the text");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  FAIL("no error");
  return "";
}

} // namespace

TEST_CASE("bounded json: nested as deep as allowed, and no deeper") {
  require_bounded_json(nested(kMaxJsonDepth), "it");
  for (const int depth : {kMaxJsonDepth + 1, 300'000}) {
    CHECK(
        error_of(nested(depth)) ==
        "[test] the text is nested deeper than "
        "100 levels");
  }
}

TEST_CASE("bounded json: an error names the place") {
  const std::string error = error_of("{\"a\": }");
  CAPTURE(error);
  CHECK(error.starts_with("[test] the text is no JSON: "));
  CHECK(error.find("line 1, column 7") != std::string::npos);
}

TEST_CASE("bounded json: a number that no double can hold is refused") {
  CHECK(error_of("[1e999]").find("number overflow") != std::string::npos);
}

TEST_CASE("tight schema: a schema that is nested without end is refused") {
  std::string schema;
  for (int i = 0; i < 200'000; ++i) {
    schema += "{\"items\":";
  }
  CHECK_THROWS_AS(
      tight_schema(schema + "{}" + std::string(200'000, '}')), Error);
}
