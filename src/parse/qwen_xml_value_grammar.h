// The grammar of one parameter's value in a strict tool's calls, as Qwen's XML
// form writes it: a text as it is, all else as JSON.
//
// Thread rule: a pure function.
#pragma once

#include <cstddef>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "parse/tool_form.h"

namespace mlx_flash::parse {

class SchemaTypes;

// Whose parameter it is.
struct StrictTool {
  const ToolSignature& signature;
  const nlohmann::ordered_json& root; // of its schema
  SchemaTypes& types; // in it
  size_t& room; // bytes that its grammar may yet have
};

struct ValueRules {
  std::string alternatives; // of the value, each with its closing mark
  std::string rules; // that they name, each beginning with `rule` and "_"
};

// `schema` is the property's in the tool's. Throws as strict_parameters() does.
ValueRules value_rules(
    const StrictTool& tool,
    const std::string& property,
    const nlohmann::ordered_json& schema,
    const std::string& rule);

} // namespace mlx_flash::parse
