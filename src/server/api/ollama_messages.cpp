#include "server/api/ollama_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "server/schema_text.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

constexpr size_t kMostNameBytes = 256;
constexpr size_t kMostCalls = 256; // of one message

std::string name_of(Fields& fields, const char* field) {
  const std::string name = fields.required_text(field, kMostNameBytes);
  if (name.empty()) {
    fields.reject(field, "must not be empty");
  }
  return name;
}

// {"id": "call_1", "function": {"name": "f", "arguments": {}}}
ToolCall read_call(const Json& value, const std::string& name) {
  Fields call(value, name);
  ToolCall read;
  read.id = call.text("id", kMostNameBytes).value_or("");
  call.word("type", {"function"});
  call.accept({"index"}); // the order is that of the array
  const Json* what = call.object("function");
  if (!what) {
    call.reject("function", "is missing");
  }
  call.done();

  Fields function(*what, call.path("function"));
  read.name = name_of(function, "name");
  const Json* arguments = function.object("arguments");
  read.arguments = arguments ? arguments->dump() : "{}";
  function.accept({"index", "description"});
  function.done();
  return read;
}

std::vector<ToolCall> read_calls(Fields& message) {
  std::vector<ToolCall> calls;
  if (const Json* values = message.array("tool_calls", kMostCalls)) {
    for (const Json& value : *values) {
      calls.push_back(read_call(
          value,
          fmt::format("{}[{}]", message.path("tool_calls"), calls.size())));
    }
  }
  return calls;
}

// Ollama takes a role in any case.
std::string read_role(Fields& message) {
  std::string role = message.required_text("role", kMostNameBytes);
  std::transform(role.begin(), role.end(), role.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  constexpr std::array<std::string_view, 4> kRoles{
      "system", "user", "assistant", "tool"};
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    message.reject(
        "role",
        fmt::format(
            "must be one of {}, not '{}'",
            fmt::join(kRoles, ", "),
            role.substr(0, 64)));
  }
  return role;
}

// A field that only messages of one role have.
void refuse_unless(Fields& message, bool right, const char* field, bool given) {
  if (given && !right) {
    message.reject(field, "has no meaning in a message of this role");
  }
}

ChatMessage read_message(const Json& value, const std::string& name) {
  Fields message(value, name);
  ChatMessage read;
  read.role = read_role(message);
  // The official client leaves out what is empty.
  read.content = message.text("content").value_or("");
  read.reasoning = message.text("thinking").value_or("");
  read.tool_calls = read_calls(message);
  read.name = message.text("tool_name", kMostNameBytes).value_or("");
  read.tool_call_id = message.text("tool_call_id", kMostNameBytes).value_or("");
  refuse_ollama_images(message);
  message.done();

  const bool assistant = read.role == "assistant";
  const bool tool = read.role == "tool";
  refuse_unless(message, assistant, "thinking", !read.reasoning.empty());
  refuse_unless(message, assistant, "tool_calls", !read.tool_calls.empty());
  refuse_unless(message, tool, "tool_name", !read.name.empty());
  refuse_unless(message, tool, "tool_call_id", !read.tool_call_id.empty());
  return read;
}

// {"type": "function", "function": {"name": "f", "description": "...",
// "parameters": {...}}}
Tool read_tool(
    const Json& value,
    const std::string& name,
    const ServerLimits& limits) {
  Fields tool(value, name);
  tool.word("type", {"function"});
  tool.refuse("items", "is not supported");
  const Json* what = tool.object("function");
  if (!what) {
    tool.reject("function", "is missing");
  }
  tool.done();

  Fields function(*what, tool.path("function"));
  Tool read;
  read.name = name_of(function, "name");
  read.description = function.text("description").value_or("");
  if (const Json* parameters = function.object("parameters")) {
    read.parameters =
        schema_text(*parameters, function.path("parameters"), limits);
  }
  read.strict = function.boolean("strict").value_or(false);
  function.done();
  return read;
}

} // namespace

std::vector<ChatMessage> read_ollama_messages(
    Fields& body,
    const ServerLimits& limits) {
  std::vector<ChatMessage> messages;
  if (const Json* values = body.array("messages", limits.messages)) {
    for (const Json& value : *values) {
      messages.push_back(read_message(
          value,
          fmt::format("{}[{}]", body.path("messages"), messages.size())));
    }
  }
  return messages;
}

std::vector<Tool> read_ollama_tools(Fields& body, const ServerLimits& limits) {
  std::vector<Tool> tools;
  if (const Json* values = body.array("tools", limits.tools)) {
    for (const Json& value : *values) {
      tools.push_back(read_tool(
          value,
          fmt::format("{}[{}]", body.path("tools"), tools.size()),
          limits));
    }
  }
  return tools;
}

void refuse_ollama_images(Fields& fields) {
  fields.refuse("images", "cannot be honoured: models here read text", {"[]"});
}

} // namespace mlx_flash::server
