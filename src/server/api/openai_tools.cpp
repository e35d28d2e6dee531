// read_tools() of openai_messages.h.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "server/api/openai_fields.h"
#include "server/api/openai_messages.h"
#include "server/api_error.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

// {"type": "function", "function": {...}}: what the inner object is called.
const Json& read_function(Fields& fields, const char* what) {
  const std::string type =
      fields.text("type", kMostNameBytes).value_or("function");
  if (type != "function") {
    fields.reject(
        "type",
        fmt::format(
            "'{}' is not supported: {} are of type 'function'", type, what));
  }
  const Json* function = fields.object("function");
  if (!function) {
    fields.reject("function", "is missing");
  }
  return *function;
}

// A part of the grammar of calls, and what clients look functions up by.
std::string read_tool_name(Fields& function) {
  const std::string name = function.required_text("name", 128);
  const bool good =
      !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  if (!good) {
    function.reject("name", "must consist of a-z, A-Z, 0-9, '_' and '-'");
  }
  return name;
}

Tool read_tool(
    const Json& value,
    const std::string& path,
    const ServerLimits& limits) {
  Fields fields(value, path);
  Fields function(read_function(fields, "tools"), fields.path("function"));
  Tool tool;
  tool.name = read_tool_name(function);
  tool.description =
      function.text("description", limits.schema_bytes).value_or("");
  if (const Json* schema = function.object("parameters")) {
    tool.parameters = schema_text(*schema, function.path("parameters"), limits);
  }
  tool.strict = function.boolean("strict").value_or(false);
  function.done();
  fields.accept({"cache_control"});
  fields.done();
  return tool;
}

std::vector<Tool> read_tool_list(Fields& fields, const ServerLimits& limits) {
  std::vector<Tool> tools;
  const Json* array = fields.array("tools", limits.tools);
  if (!array) {
    return tools;
  }
  std::set<std::string> names;
  for (const Json& each : *array) {
    const std::string path =
        fmt::format("{}[{}]", fields.path("tools"), tools.size());
    tools.push_back(read_tool(each, path, limits));
    if (!names.insert(tools.back().name).second) {
      throw invalid_field(
          path,
          fmt::format(
              "{} has the same name as another, '{}'",
              path,
              tools.back().name));
    }
  }
  return tools;
}

// The name in {"type": "function", "function": {"name": ...}}, of a tool that
// there is.
std::string read_chosen(Fields& fields, const std::vector<Tool>& tools) {
  Fields function(read_function(fields, "choices"), fields.path("function"));
  const std::string name = function.required_text("name", 128);
  function.done();
  if (std::none_of(tools.begin(), tools.end(), [&](const Tool& each) {
        return each.name == name;
      })) {
    function.reject("name", fmt::format("'{}' is none of the tools", name));
  }
  return name;
}

// Leaves only those that are allowed.
void read_allowed(Fields& fields, std::vector<Tool>& tools, ToolChoice& to) {
  const Json* value = fields.object("allowed_tools");
  if (!value) {
    fields.reject("allowed_tools", "is missing");
  }
  Fields allowed(*value, fields.path("allowed_tools"));
  const auto mode = allowed.word("mode", {"auto", "required"});
  if (mode == "required") {
    to.kind = ToolChoice::Kind::required;
  }
  std::set<std::string> names;
  size_t index = 0;
  for (const Json& each : allowed.required_array("tools", tools.size())) {
    Fields entry(each, fmt::format("{}[{}]", allowed.path("tools"), index++));
    names.insert(read_chosen(entry, tools));
    entry.done();
  }
  allowed.done();
  std::erase_if(
      tools, [&](const Tool& each) { return names.count(each.name) == 0; });
}

void read_choice_object(
    const Json& value,
    const std::string& path,
    std::vector<Tool>& tools,
    ToolChoice& to) {
  Fields fields(value, path);
  if (fields.text("type", kMostNameBytes) == "allowed_tools") {
    read_allowed(fields, tools, to);
  } else {
    to.name = read_chosen(fields, tools);
    to.kind = ToolChoice::Kind::named;
  }
  fields.done();
}

} // namespace

void read_tools(
    Fields& fields,
    const ServerLimits& limits,
    std::vector<Tool>& tools,
    ToolChoice& choice) {
  fields.refuse(
      "functions", "are no longer in use: send them as tools", {"[]"});
  fields.refuse(
      "function_call",
      "is no longer in use: send tool_choice",
      {"\"auto\"", "\"none\""});
  tools = read_tool_list(fields, limits);
  choice.parallel = fields.boolean("parallel_tool_calls").value_or(true);

  const Json* value = fields.value("tool_choice");
  if (value && value->is_object()) {
    read_choice_object(*value, fields.path("tool_choice"), tools, choice);
  } else if (value) {
    const auto word = fields.word("tool_choice", {"none", "auto", "required"});
    choice.kind = word == "none" ? ToolChoice::Kind::none
        : word == "required"     ? ToolChoice::Kind::required
                                 : ToolChoice::Kind::automatic;
  }
  if (choice.kind == ToolChoice::Kind::required && tools.empty()) {
    fields.reject("tool_choice", "asks for a call, but there are no tools");
  }
}

} // namespace mlx_flash::server
