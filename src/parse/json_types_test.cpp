#include "parse/json_types.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace mlx_flash::parse {

namespace {

JsonTypes types_of(const char* schema) {
  const auto tree = nlohmann::ordered_json::parse(schema);
  return SchemaTypes(tree).of(tree);
}

} // namespace

TEST_CASE("json types: each keyword leaves the types that it can") {
  CHECK(types_of("{}") == kAnyType);
  CHECK(types_of("true") == kAnyType);
  CHECK(types_of(R"({"type": "string"})") == kString);
  CHECK(types_of(R"({"type": "number"})") == (kNumber | kInteger));
  CHECK(types_of(R"({"type": ["string", "null"]})") == (kString | kNull));
  CHECK(
      types_of(R"({"enum": ["a", 1, 1.5, true]})") ==
      (kString | kInteger | kNumber | kBoolean));
  CHECK(types_of(R"({"const": []})") == kArray);
  CHECK(
      types_of(R"({"anyOf": [{"type": "object"}, {"const": null}]})") ==
      (kObject | kNull));
  CHECK(types_of(R"({"oneOf": [{"type": "string"}, {}]})") == kAnyType);
  CHECK(types_of(R"({"allOf": [{"type": ["string", "null"]},
                               {"type": ["array", "null"]}]})") == kNull);
  CHECK(types_of(R"({"type": ["string", "null"], "enum": ["a"]})") == kString);
}

TEST_CASE("json types: references are followed, in circles not for ever") {
  CHECK(types_of(R"({"$ref": "#/$defs/a~1b",
                     "$defs": {"a/b": {"type": "string"}}})") == kString);
  CHECK(types_of(R"({"$ref": "#/nowhere"})") == kAnyType);
  CHECK(types_of(R"({"$ref": "elsewhere.json"})") == kAnyType);
  CHECK(types_of(R"({"$ref": "#/~2"})") == kAnyType);
  CHECK(types_of(R"({"$ref": "#"})") == kAnyType);
  CHECK(types_of(R"({"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"},
                               {"$ref": "#"}, {"$ref": "#"}]})") == kAnyType);
}

// A text takes two references, each of which takes two, and so on.
TEST_CASE("json types: what is referred to by many is looked into once") {
  std::string schema = R"({"$ref": "#/$defs/d0", "$defs": {)";
  constexpr int kDoublings = 25;
  for (int i = 0; i < kDoublings; ++i) {
    const std::string next = "{\"$ref\": \"#/$defs/d" + std::to_string(i + 1);
    schema += "\"d" + std::to_string(i) + "\": {\"anyOf\": [" + next + "\"}, " +
        next + "\"}]},";
  }
  schema += "\"d" + std::to_string(kDoublings) + "\": {\"type\": \"string\"}}}";
  const auto tree = nlohmann::ordered_json::parse(schema);
  SchemaTypes types(tree);
  CHECK(types.of(tree) == kString);
  // Of the root, each "anyOf", its two references, and the text.
  CHECK(types.members() == 2 + 3 * kDoublings + 1);
}

TEST_CASE("json types: all properties together cost what the schema is long") {
  using Json = nlohmann::ordered_json;
  constexpr size_t kProperties = 200;
  const Json root_reference = {{"$ref", "#"}};
  Json tree = {{"anyOf", {root_reference, root_reference}}};
  for (size_t i = 0; i < kProperties; ++i) {
    tree["k" + std::to_string(i)] = 1;
    tree["properties"]["p" + std::to_string(i)] = root_reference;
  }
  SchemaTypes types(tree);
  for (const Json& property : tree["properties"]) {
    CHECK(types.of(property) == kAnyType);
  }
  CHECK(types.members() == tree.size() + 2 + kProperties);
}

TEST_CASE("json types: what is malformed rules nothing out") {
  CHECK(types_of(R"({"type": "text"})") == kAnyType);
  CHECK(
      types_of(
          R"({"type": 3, "enum": 4, "anyOf": 5, "allOf": 6, "$ref": 7})") ==
      kAnyType);
  CHECK(PropertyTypes("nonsense").of("a") == kAnyType);
  CHECK(PropertyTypes("[]").of("a") == kAnyType);
  CHECK(PropertyTypes(R"({"properties": 1})").of("a") == kAnyType);
}

TEST_CASE("json types: of an object's properties") {
  const PropertyTypes types(R"({"properties": {"a": {"$ref": "#/$defs/t"}},
                                "$defs": {"t": {"type": "integer"}}})");
  CHECK(types.of("a") == kInteger);
  CHECK(types.of("b") == kAnyType);
}

} // namespace mlx_flash::parse
