#include "parse/schema.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mlx_flash::parse {

nlohmann::ordered_json parse_schema(
    std::string_view text,
    std::string_view what) {
  using Json = nlohmann::ordered_json;
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

} // namespace mlx_flash::parse
