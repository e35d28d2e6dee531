#include "engine/tight_schema.h"

#include <nlohmann/json.hpp>

#include "engine/bounded_json.h"

namespace mlx_flash {

std::string tight_schema(const std::string& json_schema) {
  require_bounded_json(json_schema, "[grammar] the JSON schema");
  auto schema = nlohmann::ordered_json::parse(json_schema);
  if (!schema.is_object() || schema.contains("x-guidance")) {
    return json_schema;
  }
  schema["x-guidance"] = {{"whitespace_flexible", false}};
  return schema.dump();
}

} // namespace mlx_flash
