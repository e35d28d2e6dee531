#include "server/fields.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

// The field that is named as wrong, and in the message, too; "none" if nothing
// is thrown.
template <typename Work>
std::string wrong(const Work& work) {
  try {
    work();
    return "none";
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    CHECK(std::string(error.what()).find(error.param) == 0);
    return error.param;
  }
}

} // namespace

TEST_CASE("fields: what nobody has asked for is named") {
  const Json body =
      Json::parse(R"({"a": 1, "b": null, "c": {"d": 2, "e": null}})");
  Fields fields(body);
  CHECK(fields.integer("a", 0, 5) == 1);
  CHECK(!fields.text("b"));
  CHECK(!fields.has("b"));
  CHECK(wrong([&] { fields.done(); }) == "c");
  Fields inner(*fields.object("c"), fields.path("c"));
  CHECK(wrong([&] { inner.done(); }) == "c.d");
  inner.accept({"d"});
  inner.done();
  fields.done();
}

TEST_CASE("fields: types and ranges are kept to") {
  const Json body = Json::parse(
      R"({"n": 1.5, "i": 3.0, "t": "four", "b": true, "a": ["x", "y"],
          "large": 18446744073709551615, "o": {}})");
  Fields fields(body);
  CHECK(fields.number("n", 1, 1.5) == 1.5);
  CHECK(wrong([&] { fields.number("n", 1, 1.4); }) == "n");
  CHECK(wrong([&] { fields.number("t", 0, 9); }) == "t");
  CHECK(fields.integer("i", 3, 3) == 3);
  CHECK(wrong([&] { fields.integer("i", 4, 9); }) == "i");
  CHECK(wrong([&] { fields.integer("n", 0, 9); }) == "n");
  CHECK(wrong([&] { fields.integer("large", -9, INT64_MAX); }) == "large");
  CHECK(fields.text("t", 4) == "four");
  CHECK(wrong([&] { fields.text("t", 3); }) == "t");
  CHECK(fields.boolean("b") == true);
  CHECK(wrong([&] { fields.boolean("n"); }) == "n");
  CHECK(fields.word("t", {"three", "four"}) == "four");
  CHECK(wrong([&] { fields.word("t", {"three"}); }) == "t");
  CHECK(fields.array("a", 2)->size() == 2);
  CHECK(wrong([&] { fields.array("a", 1); }) == "a");
  CHECK(fields.texts("a", 2, 1)->size() == 2);
  CHECK(wrong([&] { fields.texts("a", 1, 1); }) == "a");
  CHECK(wrong([&] { fields.texts("a", 2, 0); }) == "a");
  CHECK(wrong([&] { fields.object("a"); }) == "a");
  CHECK(wrong([&] { fields.required_text("more"); }) == "more");
  CHECK(wrong([&] { fields.refuse("b", "cannot be"); }) == "b");
  fields.refuse("b", "cannot be false", {"true"});
}
