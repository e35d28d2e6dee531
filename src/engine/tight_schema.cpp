#include "engine/tight_schema.h"

#include <nlohmann/json.hpp>

namespace mlx_flash {

std::string tight_schema(const std::string& json_schema) {
  auto schema = nlohmann::ordered_json::parse(json_schema, nullptr, false);
  if (!schema.is_object() || schema.contains("x-guidance")) {
    return json_schema;
  }
  schema["x-guidance"] = {{"whitespace_flexible", false}};
  return schema.dump();
}

} // namespace mlx_flash
