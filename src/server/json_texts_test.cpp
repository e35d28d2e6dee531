#include "server/json_texts.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/server_options.h"

using namespace mlx_flash::server;

namespace {

// As "field: message"; empty if nothing is thrown.
template <typename Work>
std::string wrong(const Work& work) {
  try {
    work();
    return {};
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    return error.param + ": " + error.what();
  }
}

std::string wrong_with(std::string_view text, const JsonLimits& limits) {
  return wrong([&] { parse_body(text, limits); });
}

bool parses(std::string_view text, const JsonLimits& limits) {
  return wrong_with(text, limits).empty();
}

bool says(const std::string& message, const std::string& part) {
  CAPTURE(message);
  return message.find(part) != std::string::npos;
}

std::string object_of(size_t members) {
  std::string text = "{";
  for (size_t i = 0; i < members; ++i) {
    text += fmt::format("{}\"m{}\":0", i > 0 ? "," : "", i);
  }
  return text + "}";
}

} // namespace

TEST_CASE("json texts: a body is an object, and of limited depth and size") {
  CHECK(parses(R"({"a": [1, {"b": 2}]})", {}));
  CHECK(wrong_with("[1]", {}) == ": the body must be a JSON object, not array");
  CHECK(wrong_with("7", {}) == ": the body must be a JSON object, not number");
  CHECK(says(wrong_with("{", {}), ": the body is not JSON: parse error"));
  CHECK(says(wrong_with("", {}), ": the body is not JSON: parse error"));
  CHECK(says(wrong_with(R"({"a": 1e999})", {}), "not JSON"));
  JsonLimits limits;
  limits.depth = 3;
  CHECK(parses(R"({"a": [[1]]})", limits));
  CHECK(!parses(R"({"a": [[[1]]]})", limits));
  limits = {};
  limits.values = 7; // two names, two objects and an array among them
  CHECK(parses(R"({"a": [1, {"b": null}]})", limits));
  CHECK(says(
      wrong_with(R"({"a": [1, {"b": null}, 2]})", limits),
      "the 7 that a request may have"));
  // Whatever is behind is not read.
  CHECK(says(
      wrong_with(R"({"a": )" + std::string(1'000'000, '['), {}),
      "nested deeper than 64"));
}

TEST_CASE("json texts: one object has a limited number of members") {
  JsonLimits limits;
  limits.members = 2;
  CHECK(parses(R"({"a": {"b": 1, "c": 2}, "d": {"e": 3, "f": 4}})", limits));
  CHECK(!parses(R"({"a": {"b": 1, "c": 2, "d": 3}})", limits));
  CHECK(!parses(R"({"a": {"b": 1}, "c": 2, "d": 3})", limits));
  CHECK(!parses(R"({"a": 1, "a": 2, "a": 3})", limits)); // found again, too
  CHECK(parses(R"({"a": [1, 2, 3, 4]})", limits));
}

TEST_CASE("json texts: an object of a million members is not read to its end") {
  // What is behind is no JSON, which is not even found out.
  std::string text = object_of(1'000'000);
  text.back() = '!';
  JsonLimits limits;
  limits.values = 2'000'000;
  CHECK(says(wrong_with(text, limits), "more than 1024 members; send fewer"));
  CHECK(parses(object_of(1024), {}));
}

TEST_CASE("json texts: texts within a body are held to the same") {
  JsonTexts texts({});
  texts.check(R"({"a": 1})", "f");
  CHECK(texts.parse(R"({"a": 1})", "f").at("a") == 1);
  const auto wrong_text = [&](const std::string& text) {
    const std::string checked = wrong([&] { texts.check(text, "f"); });
    CHECK(wrong([&] { texts.parse(text, "f"); }) == checked);
    return checked;
  };
  CHECK(wrong_text("[1]") == "f: f must hold a JSON object, not array");
  CHECK(says(wrong_text("{"), "f: f is not JSON: parse error"));
  CHECK(says(
      wrong_text(R"({"a": )" + std::string(1'000'000, '[')),
      "f: f has JSON nested deeper than 64"));
  CHECK(says(wrong_text(object_of(1025)), "more than 1024 members"));
}

TEST_CASE("json texts: all together have as many values as one may") {
  JsonLimits limits;
  limits.values = 9;
  JsonTexts texts(limits);
  texts.check(R"({"a": 1})", "f");
  texts.parse(R"({"a": 1})", "g");
  texts.check(R"({"a": 1})", "h");
  CHECK(says(
      wrong([&] { texts.check("{}", "i"); }),
      "i: i has more JSON values than the 9"));
  CHECK(!wrong([&] { texts.parse("{}", "j"); }).empty());
}

TEST_CASE("json texts: the limits are the server's") {
  ServerLimits limits;
  limits.json_depth = 7;
  limits.json_values = 11;
  CHECK(json_limits(limits).depth == 7);
  CHECK(json_limits(limits).values == 11);
  CHECK(json_limits({}).values == JsonLimits{}.values);
}
