#include "server/api/openai_responses_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "server/api/openai_fields.h"
#include "server/api/openai_responses_messages.h"
#include "server/api_error.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostToolNameBytes = 128;

bool is_tool_name(const std::string& name) {
  const auto fits = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), fits);
}

std::string read_name(Fields& fields) {
  std::string name = fields.required_text("name", kMostToolNameBytes);
  if (!is_tool_name(name)) {
    fields.reject("name", "must consist of letters, digits, '_' and '-' alone");
  }
  return name;
}

// Null where there is none.
const Json* read_parameters(Fields& fields) {
  const Json* schema = fields.object("parameters");
  if (!schema) {
    return nullptr;
  }
  const auto type = schema->find("type");
  if (type != schema->end() && *type != "object") {
    fields.reject("parameters", "must be of type object");
  }
  return schema;
}

void check_callers(Fields& fields) {
  const Json* callers = fields.array("allowed_callers", 8);
  if (callers && !callers->empty() && *callers != Json{"direct"}) {
    fields.reject(
        "allowed_callers",
        "must be [\"direct\"]: there are no programs that call tools");
  }
}

Tool read_function(Fields& fields, const ServerLimits& limits, Json& echo) {
  Tool tool;
  tool.name = read_name(fields);
  tool.description = fields.text("description").value_or("");
  const Json* parameters = read_parameters(fields);
  if (parameters) {
    tool.parameters =
        schema_text(*parameters, fields.path("parameters"), limits);
  }
  tool.strict = fields.boolean("strict").value_or(
      parameters && is_strict_schema(*parameters));
  check_callers(fields);
  // Functions whose loading is deferred are there from the start.
  fields.accept({"defer_loading", "output_schema"});
  fields.done();
  echo.push_back(
      {{"type", "function"},
       {"name", tool.name},
       {"description", tool.description},
       {"parameters", parameters ? *parameters : Json(nullptr)},
       {"strict", tool.strict}});
  return tool;
}

[[noreturn]] void reject_type(const Fields& fields, const std::string& type) {
  fields.reject(
      "type",
      fmt::format(
          "is '{}', which is not supported: this server runs no tools itself, "
          "and knows functions (and namespaces of functions) alone",
          type.substr(0, 64)));
}

class ToolReader {
 public:
  ToolReader(const ServerLimits& limits, Json& echo)
      : limits_(limits), echo_(echo) {}

  void read(const Json& value, const std::string& name) {
    Fields fields(value, name);
    const std::string type = fields.required_text("type");
    if (type == "function") {
      add(read_function(fields, limits_, echo_), name);
    } else if (type == "namespace") {
      read_namespace(fields);
    } else {
      reject_type(fields, type);
    }
  }

  ResponseTools take() {
    return std::move(result_);
  }

 private:
  void read_namespace(Fields& fields) {
    const std::string name_space = read_name(fields);
    // A template has no place for it but the first function's own.
    std::string description = fields.text("description").value_or("");
    const Json& tools = fields.required_array("tools", limits_.tools);
    fields.done();
    Json echo = Json::array();
    for (size_t i = 0; i < tools.size(); ++i) {
      const std::string name = fmt::format("{}[{}]", fields.path("tools"), i);
      Fields each(tools[i], name);
      if (const auto type = each.required_text("type"); type != "function") {
        reject_type(each, type);
      }
      Tool tool = read_function(each, limits_, echo);
      NamespacedName place{name_space, tool.name};
      tool.name = name_in_namespace(name_space, tool.name);
      if (i == 0 && !description.empty()) {
        tool.description = description + "\n\n" + tool.description;
      }
      result_.namespaced.emplace(tool.name, std::move(place));
      add(std::move(tool), name);
    }
    echo_.push_back(
        {{"type", "namespace"},
         {"name", name_space},
         {"description", description},
         {"tools", std::move(echo)}});
  }

  void add(Tool tool, const std::string& name) {
    if (!names_.insert(tool.name).second) {
      throw invalid_field(
          name + ".name",
          fmt::format(
              "{}.name '{}' is the name of another tool too", name, tool.name));
    }
    if (names_.size() > limits_.tools) {
      throw invalid_field(
          "tools",
          fmt::format("tools must have at most {} entries", limits_.tools));
    }
    result_.tools.push_back(std::move(tool));
  }

  const ServerLimits& limits_;
  Json& echo_;
  ResponseTools result_;
  std::set<std::string> names_;
};

// The function of that name, be it in a namespace; empty for none, or for
// more than one.
std::string find_function(const ResponseTools& tools, const std::string& name) {
  std::set<std::string> found;
  for (const Tool& tool : tools.tools) {
    const auto place = tools.namespaced.find(tool.name);
    if (tool.name == name ||
        (place != tools.namespaced.end() && place->second.name == name)) {
      found.insert(tool.name);
    }
  }
  return found.count(name) ? name : found.size() == 1 ? *found.begin() : "";
}

// Of {"type": "function", "name": "..."}: what the model knows it as.
std::string read_chosen(
    const Json& value,
    const std::string& name,
    const ResponseTools& tools) {
  Fields fields(value, name);
  const std::string type = fields.required_text("type");
  if (type != "function") {
    fields.reject(
        "type",
        fmt::format(
            "is '{}', which is not supported: choose auto, none, required, or "
            "functions",
            type.substr(0, 64)));
  }
  const std::string wanted = fields.required_text("name", kMostToolNameBytes);
  fields.done();
  const std::string found = find_function(tools, wanted);
  if (found.empty()) {
    fields.reject(
        "name", fmt::format("is '{}', which is not in tools", wanted));
  }
  return found;
}

void read_allowed(Fields& fields, ResponseTools& tools, ToolChoice& choice) {
  fields.text("type");
  if (fields.word("mode", {"auto", "required"}) == "required") {
    choice.kind = ToolChoice::Kind::required;
  }
  std::set<std::string> names;
  const Json& allowed = fields.required_array("tools", tools.tools.size());
  for (size_t i = 0; i < allowed.size(); ++i) {
    names.insert(read_chosen(
        allowed[i], fmt::format("{}[{}]", fields.path("tools"), i), tools));
  }
  fields.done();
  std::erase_if(tools.tools, [&](const Tool& each) {
    return names.count(each.name) == 0;
  });
}

void read_choice_object(
    const Json& value,
    const std::string& name,
    ResponseTools& tools,
    ToolChoice& choice) {
  Fields fields(value, name);
  if (fields.text("type", kMostNameBytes) == "allowed_tools") {
    read_allowed(fields, tools, choice);
  } else {
    choice.kind = ToolChoice::Kind::named;
    choice.name = read_chosen(value, name, tools);
  }
}

bool has_only_common_keywords(const Json& schema) {
  static const std::set<std::string> known{
      "type",
      "properties",
      "required",
      "additionalProperties",
      "items",
      "anyOf",
      "enum",
      "const",
      "title",
      "description"};
  return std::all_of(
      schema.items().begin(), schema.items().end(), [](const auto& each) {
        return known.count(each.key()) > 0;
      });
}

bool is_closed_object(const Json& schema) {
  const auto properties = schema.find("properties");
  const auto required = schema.find("required");
  const auto more = schema.find("additionalProperties");
  if (properties == schema.end() || !properties->is_object() ||
      more == schema.end() || *more != false) {
    return false;
  }
  const Json names = required == schema.end() ? Json::array() : Json(*required);
  return std::all_of(
      properties->items().begin(),
      properties->items().end(),
      [&](const auto& each) {
        return names.is_array() &&
            std::find(names.begin(), names.end(), Json(each.key())) !=
            names.end() &&
            is_strict_schema(each.value());
      });
}

} // namespace

// As deep as the body at most.
bool is_strict_schema(const Json& schema) {
  if (!schema.is_object() || !has_only_common_keywords(schema)) {
    return false;
  }
  const auto type = schema.find("type");
  const bool object = (type != schema.end() && *type == "object") ||
      schema.contains("properties");
  if (object && !is_closed_object(schema)) {
    return false;
  }
  const auto items = schema.find("items");
  if (items != schema.end() && !is_strict_schema(*items)) {
    return false;
  }
  const auto any = schema.find("anyOf");
  return any == schema.end() ||
      (any->is_array() &&
       std::all_of(any->begin(), any->end(), is_strict_schema));
}

ResponseTools
read_response_tools(Fields& body, const ServerLimits& limits, Json& echo) {
  const Json* values = body.array("tools", limits.tools);
  Json tools = Json::array();
  ToolReader reader(limits, tools);
  for (size_t i = 0; values && i < values->size(); ++i) {
    reader.read((*values)[i], fmt::format("{}[{}]", body.path("tools"), i));
  }
  echo["tools"] = std::move(tools);
  return reader.take();
}

ToolChoice
read_response_tool_choice(Fields& body, ResponseTools& tools, Json& echo) {
  ToolChoice choice;
  choice.parallel = body.boolean("parallel_tool_calls").value_or(true);
  echo["parallel_tool_calls"] = choice.parallel;
  const Json* value = body.value("tool_choice");
  echo["tool_choice"] = value ? *value : Json("auto");
  if (value && value->is_object()) {
    read_choice_object(*value, body.path("tool_choice"), tools, choice);
  } else if (value) {
    const auto word = body.word("tool_choice", {"auto", "none", "required"});
    choice.kind = word == "none" ? ToolChoice::Kind::none
        : word == "required"     ? ToolChoice::Kind::required
                                 : ToolChoice::Kind::automatic;
  }
  if (choice.kind == ToolChoice::Kind::required && tools.tools.empty()) {
    body.reject("tool_choice", "asks for a call, but there are no tools");
  }
  return choice;
}

} // namespace mlx_flash::server
