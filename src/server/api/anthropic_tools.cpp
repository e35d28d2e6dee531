#include "server/api/anthropic_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostNameBytes = 128;
constexpr size_t kMostExamples = 64;

bool is_tool_name(const std::string& name) {
  const auto fits = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), fits);
}

void check_type(Fields& fields) {
  const std::string type = fields.text("type").value_or("custom");
  if (type != "custom") {
    fields.reject(
        "type",
        fmt::format(
            "is '{}', a tool of Anthropic's own service; tools need a name "
            "and an input_schema here",
            type.substr(0, 64)));
  }
}

std::string read_schema(Fields& fields, const ServerLimits& limits) {
  const Json* schema = fields.object("input_schema");
  if (!schema) {
    fields.reject("input_schema", "is missing");
  }
  const auto type = schema->find("type");
  if (type != schema->end() && *type != "object") {
    fields.reject("input_schema", "must be of type object");
  }
  return schema_text(*schema, fields.path("input_schema"), limits);
}

// Templates have no place of their own for examples.
std::string read_description(Fields& fields) {
  std::string description = fields.text("description").value_or("");
  const Json* examples = fields.array("input_examples", kMostExamples);
  for (size_t i = 0; examples && i < examples->size(); ++i) {
    description += (i == 0 ? "\nExamples of its input:\n" : "\n");
    description += (*examples)[i].dump();
  }
  return description;
}

void check_callers(Fields& fields) {
  const Json* callers = fields.array("allowed_callers", 8);
  if (callers && *callers != Json{"direct"}) {
    fields.reject(
        "allowed_callers",
        "must be [\"direct\"]: no other tool can call tools here");
  }
}

Tool read_tool(
    const Json& value,
    std::string name,
    const ServerLimits& limits) {
  Fields fields(value, std::move(name));
  check_type(fields);
  Tool tool;
  tool.name = fields.required_text("name", kMostNameBytes);
  if (!is_tool_name(tool.name)) {
    fields.reject("name", "must consist of letters, digits, '_' and '-' alone");
  }
  tool.description = read_description(fields);
  tool.parameters = read_schema(fields, limits);
  tool.strict = fields.boolean("strict").value_or(false);
  check_callers(fields);
  // Tools whose loading is deferred are there from the start; input is always
  // streamed as it is made.
  fields.accept({"cache_control", "defer_loading", "eager_input_streaming"});
  fields.done();
  return tool;
}

} // namespace

std::vector<Tool> read_anthropic_tools(
    Fields& body,
    const ServerLimits& limits) {
  std::vector<Tool> tools;
  const Json* values = body.array("tools", limits.tools);
  std::set<std::string> names;
  for (size_t i = 0; values && i < values->size(); ++i) {
    std::string name = fmt::format("{}[{}]", body.path("tools"), i);
    tools.push_back(read_tool((*values)[i], name, limits));
    if (!names.insert(tools.back().name).second) {
      throw invalid_field(
          name + ".name",
          fmt::format(
              "{}.name '{}' is the name of another tool too",
              name,
              tools.back().name));
    }
  }
  return tools;
}

ToolChoice read_anthropic_tool_choice(
    Fields& body,
    const std::vector<Tool>& tools) {
  ToolChoice choice;
  const Json* value = body.object("tool_choice");
  if (!value) {
    return choice;
  }
  Fields fields(*value, body.path("tool_choice"));
  const auto type = fields.word("type", {"auto", "any", "tool", "none"});
  if (!type) {
    fields.reject("type", "is missing");
  }
  choice.parallel =
      !fields.boolean("disable_parallel_tool_use").value_or(false);
  if (*type == "none") {
    choice.kind = ToolChoice::Kind::none;
  } else if (*type == "any") {
    choice.kind = ToolChoice::Kind::required;
    if (tools.empty()) {
      fields.reject("type", "is 'any', but there are no tools");
    }
  } else if (*type == "tool") {
    choice.kind = ToolChoice::Kind::named;
    choice.name = fields.required_text("name", kMostNameBytes);
    const auto is_it = [&](const Tool& tool) {
      return tool.name == choice.name;
    };
    if (std::none_of(tools.begin(), tools.end(), is_it)) {
      fields.reject(
          "name", fmt::format("is '{}', which is not in tools", choice.name));
    }
  }
  fields.done();
  return choice;
}

} // namespace mlx_flash::server
