#include <doctest/doctest.h>

#include "server/api/openai_fields.h"
#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;
using mlx_flash::Constraint;

using Kind = Constraint::Kind;

namespace {

Constraint constraint_of(const std::string& changes) {
  return read_chat(changes).constraint;
}

void check(const std::string& changes, Kind kind, const std::string& source) {
  const Constraint constraint = constraint_of(changes);
  CAPTURE(changes);
  CHECK(constraint.kind == kind);
  CHECK(constraint.source == source);
}

} // namespace

TEST_CASE("openai constraint: response formats") {
  check(R"({"response_format": {"type": "text"}})", Kind::none, "");
  check(
      R"({"response_format": {"type": "json_object"}})",
      Kind::json_schema,
      R"({"type":"object"})");
  check(
      R"({"response_format": {"type": "json_object", "schema": {"type":
          "array"}}})",
      Kind::json_schema,
      R"({"type":"array"})");
  check(
      R"({"response_format": {"type": "json_schema", "json_schema": {
          "name": "n", "description": "d", "schema": {"type": "string"}}}})",
      Kind::json_schema,
      R"({"type":"string"})");
  check(
      R"({"response_format": {"type": "json_schema", "json_schema": {
          "name": "n"}}})",
      Kind::json_schema,
      R"({"type":"object"})");
}

TEST_CASE("openai constraint: a schema holds whether it is strict or not") {
  for (const char* strict : {"true", "false", "null"}) {
    check(
        std::string(R"({"response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "schema": {}, "strict": )") +
            strict + "}}}",
        Kind::json_schema,
        "{}");
  }
}

TEST_CASE("openai constraint: a schema keeps the order of its properties") {
  check(
      R"({"guided_json": {"properties": {"z": {}, "a": {}, "m": {}}}})",
      Kind::json_schema,
      R"({"properties":{"z":{},"a":{},"m":{}}})");
}

TEST_CASE("openai constraint: the names of vLLM and of llama.cpp") {
  check(R"({"guided_json": {"a": 1}})", Kind::json_schema, R"({"a":1})");
  check(R"({"guided_json": "{\"a\": 1}"})", Kind::json_schema, R"({"a":1})");
  check(R"({"json_schema": {"a": 1}})", Kind::json_schema, R"({"a":1})");
  check(R"({"guided_regex": "[ab]+"})", Kind::regex, "[ab]+");
  check(R"({"regex": "[ab]+"})", Kind::regex, "[ab]+");
  check(R"({"guided_grammar": "start: \"a\""})", Kind::lark, "start: \"a\"");
  check(R"({"grammar": "start: \"a\""})", Kind::lark, "start: \"a\"");
  check(
      R"({"structured_outputs": {"json": {"a": 1}}})",
      Kind::json_schema,
      R"({"a":1})");
  check(R"({"structured_outputs": {"regex": "a"}})", Kind::regex, "a");
  check(R"({"structured_outputs": {"grammar": "a"}})", Kind::lark, "a");
  check(
      R"({"structured_outputs": {"json_object": true}})",
      Kind::json_schema,
      R"({"type":"object"})");
  check(R"({"structured_outputs": {"json_object": false}})", Kind::none, "");
}

TEST_CASE("openai constraint: terminals of sets of texts are refused") {
  for (const char* const field : {"guided_grammar", "grammar"}) {
    const std::string fields = std::string(R"({")") + field +
        R"(": "start: A\nA: /.*a.{15}/ & ~/.*b.{14}/"})";
    CHECK(wrong_in_chat(fields) == field);
  }
  CHECK(
      wrong_in_chat(
          R"({"structured_outputs": {"grammar": "start: A\nA: ~/a/"}})") ==
      "structured_outputs.grammar");
  check(R"({"regex": "~[a&&b]"})", Kind::regex, "~[a&&b]");
}

TEST_CASE("openai constraint: choices are matched as they are written") {
  check(
      R"x({"guided_choice": ["yes", "no?", "a|b", "(c\\d)"]})x",
      Kind::regex,
      R"x((yes)|(no\?)|(a\|b)|(\(c\\d\)))x");
  check(
      R"({"structured_outputs": {"choice": ["a", "b"]}})",
      Kind::regex,
      "(a)|(b)");
  CHECK(wrong_in_chat(R"({"guided_choice": []})") == "guided_choice");
  CHECK(wrong_in_chat(R"({"guided_choice": [1]})") == "guided_choice");
  CHECK(
      wrong_in_chat(R"({"structured_outputs": {"choice": []}})") ==
      "structured_outputs.choice");
}

TEST_CASE("openai constraint: one of them at a time") {
  CHECK(
      wrong_in_chat(R"({"guided_regex": "a", "guided_json": {}})") ==
      "guided_regex");
  CHECK(
      wrong_in_chat(
          R"({"response_format": {"type": "json_object"}, "grammar": "a"})") ==
      "grammar");
  CHECK(
      wrong_in_chat(R"({"structured_outputs": {"json": {}, "regex": "a"}})") ==
      "structured_outputs.regex");
  CHECK(
      wrong_in_chat(
          R"({"response_format": {"type": "text"}, "grammar": "a"})") == "");
}

TEST_CASE("openai constraint: what is malformed is named") {
  CHECK(wrong_in_chat(R"({"response_format": "json"})") == "response_format");
  CHECK(wrong_in_chat(R"({"response_format": {}})") == "response_format.type");
  CHECK(
      wrong_in_chat(R"({"response_format": {"type": "xml"}})") ==
      "response_format.type");
  CHECK(
      wrong_in_chat(R"({"response_format": {"type": "text", "schema": {}}})") ==
      "response_format.schema");
  CHECK(
      wrong_in_chat(R"({"response_format": {"type": "json_schema"}})") ==
      "response_format.json_schema");
  const auto wrong = [](const std::string& named) {
    return wrong_in_chat(
        R"({"response_format": {"type": "json_schema", "json_schema": )" +
        named + "}}");
  };
  const std::string path = "response_format.json_schema";
  CHECK(wrong("{}") == path + ".name");
  CHECK(wrong(R"({"name": "n", "schema": true})") == path + ".schema");
  CHECK(wrong(R"({"name": "n", "strict": 1})") == path + ".strict");
  CHECK(wrong(R"({"name": "n", "more": 1})") == path + ".more");
  CHECK(wrong_in_chat(R"({"guided_json": "no JSON"})") == "guided_json");
  CHECK(wrong_in_chat(R"({"guided_json": "[]"})") == "guided_json");
  CHECK(wrong_in_chat(R"({"guided_json": 1})") == "guided_json");
  CHECK(wrong_in_chat(R"({"guided_regex": ""})") == "guided_regex");
  CHECK(wrong_in_chat(R"({"grammar": {}})") == "grammar");
  CHECK(
      wrong_in_chat(R"({"structured_outputs": {"structural_tag": "x"}})") ==
      "structured_outputs.structural_tag");
}

TEST_CASE("openai constraint: the field that asks for it is known") {
  const auto field = [](const char* changes) {
    return read_chat(changes).constraint_field;
  };
  CHECK(field("{}") == "");
  CHECK(field(R"({"response_format": {"type": "text"}})") == "");
  CHECK(
      field(R"({"response_format": {"type": "json_object"}})") ==
      "response_format");
  CHECK(
      field(R"({"response_format": {"type": "json_schema", "json_schema": {
          "name": "n", "schema": {}}}})") ==
      "response_format.json_schema.schema");
  CHECK(field(R"({"guided_regex": "a"})") == "guided_regex");
  CHECK(
      field(R"({"structured_outputs": {"grammar": "a"}})") ==
      "structured_outputs.grammar");
}

TEST_CASE("openai constraint: a schema does not set the compiler's options") {
  CHECK(
      wrong_in_chat(R"({"response_format": {"type": "json_schema",
          "json_schema": {"name": "n", "schema": {"x-guidance": {}}}}})") ==
      "response_format.json_schema.schema.x-guidance");
  CHECK(wrong_in_chat(R"({"response_format": {"type": "json_object",
          "schema": {"x-guidance": {}}}})") == "response_format.x-guidance");
  CHECK(
      wrong_in_chat(R"({"guided_json": "{\"x-guidance\": {}}"})") ==
      "guided_json.x-guidance");
}

TEST_CASE("openai constraint: sources are bounded") {
  ServerLimits limits;
  limits.schema_bytes = 8;
  CHECK(wrong_in_chat(R"({"guided_json": {"a": 12}})", limits) == "");
  CHECK(
      wrong_in_chat(R"({"guided_json": {"a": 123}})", limits) == "guided_json");
  CHECK(
      wrong_in_chat(R"({"guided_json": "{\"a\": 1}   "})", limits) ==
      "guided_json");
  CHECK(wrong_in_chat(R"({"regex": "12345678"})", limits) == "");
  CHECK(wrong_in_chat(R"({"regex": "123456789"})", limits) == "regex");
  CHECK(wrong_in_chat(R"({"grammar": "123456789"})", limits) == "grammar");
  CHECK(
      wrong_in_chat(R"({"guided_choice": ["aa", "aa", "aa"]})", limits) ==
      "guided_choice");
  CHECK(
      wrong_in_chat(
          R"({"response_format": {"type": "json_schema", "json_schema":
              {"name": "n", "schema": {"a": 123}}}})",
          limits) == "response_format.json_schema.schema");
  limits = {};
  limits.json_depth = 4;
  CHECK(wrong_in_chat(R"({"guided_json": "{\"a\":[[[1]]]}"})", limits) == "");
  CHECK(
      wrong_in_chat(R"({"guided_json": "{\"a\":[[[[1]]]]}"})", limits) ==
      "guided_json");
}
