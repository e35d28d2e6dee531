#include "server/schema_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "parse/schema.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

bool is_deeper(const Json& value, int levels) {
  if (!value.is_structured()) {
    return false;
  }
  if (levels == 0) {
    return true;
  }
  for (const Json& each : value) {
    if (is_deeper(each, levels - 1)) {
      return true;
    }
  }
  return false;
}

} // namespace

std::string schema_text(
    const Json& schema,
    const std::string& field,
    const ServerLimits& limits) {
  if (is_deeper(schema, parse::kMostSchemaDepth)) {
    throw invalid_field(
        field,
        fmt::format(
            "{} must not be nested deeper than {} levels",
            field,
            parse::kMostSchemaDepth));
  }
  if (schema.contains("x-guidance")) {
    throw invalid_field(
        field + ".x-guidance",
        fmt::format(
            "{}.x-guidance is not supported: how a schema is compiled is not "
            "up to requests; leave it out",
            field));
  }
  std::string text = schema.dump();
  if (text.size() > limits.schema_bytes) {
    throw invalid_field(
        field,
        fmt::format(
            "{} must be at most {} bytes of JSON, not {}",
            field,
            limits.schema_bytes,
            text.size()));
  }
  return text;
}

} // namespace mlx_flash::server
