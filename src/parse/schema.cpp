#include "parse/schema.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

// Keywords that rule out no value.
const std::set<std::string> kNotes = {
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "contentMediaType",
    "contentEncoding",
    "contentSchema"};

} // namespace

Json parse_schema(std::string_view text, std::string_view what) {
  bool deep = false;
  const auto bound = [&](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMostSchemaDepth;
    return !deep;
  };
  Json schema = Json::parse(text, bound, false);
  if (deep) {
    fail(
        ErrorCode::invalid_argument,
        "{} is nested deeper than {} levels",
        what,
        kMostSchemaDepth);
  }
  if (!schema.is_object()) {
    fail(ErrorCode::invalid_argument, "{} is no JSON object", what);
  }
  return schema;
}

std::string other_keyword(
    const Json& schema,
    const std::set<std::string>& known) {
  for (const auto& [key, value] : schema.items()) {
    if (!known.contains(key) && !kNotes.contains(key)) {
      return key;
    }
  }
  return "";
}

std::string print(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace mlx_flash::parse
