#include "parse/qwen_xml_strict.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "parse/json_types.h"
#include "parse/lark.h"
#include "parse/qwen_xml_value_grammar.h"
#include "parse/schema.h"

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

const std::set<std::string> kOfObjects = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "strict"};

Json object_schema(const ToolSignature& tool) {
  Json schema = parse_schema(
      tool.parameters,
      fmt::format("[tools] the schema of the strict tool '{}'", tool.name));
  const auto reject = [&](const std::string& what) {
    fail(
        ErrorCode::invalid_argument,
        "[tools] the parameters of the strict tool '{}' {}",
        tool.name,
        what);
  };
  const std::string keyword = other_keyword(schema, kOfObjects);
  if (!keyword.empty()) {
    reject(fmt::format(
        "have '{}', which calls of this model cannot be held to", keyword));
  }
  if (!schema.contains("properties") || !schema["properties"].is_object()) {
    schema["properties"] = Json::object();
  }
  if (!schema.contains("required") || !schema["required"].is_array()) {
    schema["required"] = Json::array();
  }
  for (const Json& name : schema["required"]) {
    if (!name.is_string() ||
        !schema["properties"].contains(name.get<std::string>())) {
      reject(fmt::format(
          "require {}, which 'properties' does not describe", print(name)));
    }
  }
  return schema;
}

} // namespace

StrictParameters strict_parameters(
    const std::string& rule,
    const ToolSignature& tool,
    size_t& room) {
  const Json root = object_schema(tool);
  SchemaTypes types(root);
  const StrictTool strict{tool, root, types, room};
  const Json& required = root["required"];
  StrictParameters result;
  size_t number = 0;
  for (const auto& [name, schema] : root["properties"].items()) {
    const std::string parameter = fmt::format("{}_p{}", rule, number++);
    const ValueRules value = value_rules(strict, name, schema, parameter);
    result.rules += fmt::format(
        "{}: {} ({})\n{}",
        parameter,
        lark_string("<parameter=" + name + ">\n"),
        value.alternatives,
        value.rules);
    const bool must = std::find(required.begin(), required.end(), Json(name)) !=
        required.end();
    result.sequence += parameter + (must ? " " : "? ");
  }
  return result;
}

} // namespace mlx_flash::parse
