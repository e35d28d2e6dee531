#include "cli/input.h"

#include <doctest/doctest.h>

#include "mlx_flash/error.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

std::string refusal(const std::string& json) {
  try {
    parse_ids(json, "ids.json");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return "";
}

} // namespace

TEST_CASE("ids: a list of token ids is taken as it is") {
  CHECK(parse_ids("[]", "x").empty());
  CHECK(
      parse_ids(" [3, 0,\n4294967295] ", "x") ==
      std::vector<TokenId>{3, 0, 4294967295});
}

TEST_CASE("ids: anything else is refused, by file and place") {
  CHECK(
      refusal("[1, -1]") ==
      "[ids] ids.json has -1 at index 1; it must be a list of token ids, "
      "whole numbers from 0 to 4294967295");
  for (const char* json :
       {"[4294967296]",
        "[1.0]",
        "[1e2]",
        "[99999999999999999999999]",
        "[\"1\"]",
        "[null]",
        "[true]",
        "[[1]]",
        "{\"ids\": [1]}",
        "7",
        "null"}) {
    CAPTURE(json);
    CHECK(refusal(json).starts_with("[ids] ids.json "));
  }
  for (const char* json : {"", "[1, 2", "[1,]", "[1] [2]", "[1e999]", "x"}) {
    CAPTURE(json);
    CHECK(refusal(json).find("no valid JSON") != std::string::npos);
  }
}

TEST_CASE("ids: deep nesting and long numbers are refused early") {
  CHECK(refusal(std::string(1 << 20, '[')).size() < 300);
  CHECK(refusal("[" + std::string(1 << 20, '1') + "]").size() < 300);
  CHECK(refusal("[\"" + std::string(1 << 20, 'x') + "\"]").size() < 300);
}

TEST_CASE("input: a file that is not there is wrong input") {
  try {
    read_input("/nonexistent/file");
    FAIL("it was read");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    CHECK(std::string(e.what()).find("/nonexistent/file") != std::string::npos);
  }
}
