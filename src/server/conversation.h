// A conversation in no dialect's form: what all of them are translated to, and
// what chat templates are given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/json_texts.h"

namespace mlx_flash::server {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments; // a JSON object
};

struct ChatMessage {
  std::string role; // "system", "user", "assistant", "tool"
  std::string content{};
  std::string reasoning{}; // an assistant's
  std::vector<ToolCall> tool_calls{}; // an assistant's
  std::string tool_call_id{}; // a tool's: which call this is the result of
  std::string name{}; // a tool's, or empty
};

struct Tool {
  std::string name;
  std::string description{};
  std::string parameters{}; // a JSON schema of an object; empty: any object
  bool strict = false; // arguments follow the schema
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::vector<Tool> tools{};
  // Whether the model may think first, where its template can say so.
  std::optional<bool> thinking{};
  // A JSON object of more values for the template; may be empty.
  std::string template_values{};
};

// Throws ApiError for one that ends with the assistant's message: an answer
// that the request begins is not gone on with here, and templates would begin
// another one behind it. `field` is where its messages are.
void check_last_role(
    const Conversation& conversation,
    const std::string& field = "messages");

// What a template is given, as transformers gives it: {"messages": [...],
// "tools": [...], "add_generation_prompt": true, ...}. Arguments of tool calls
// are objects in it. Throws ApiError(invalid_request) for JSON that is none,
// and where all of it together exceeds the limits.
std::string template_context(
    const Conversation& conversation,
    const JsonLimits& limits);

} // namespace mlx_flash::server
