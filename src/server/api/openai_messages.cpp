#include "server/api/openai_messages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api/openai_fields.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

// One of a content's parts, which must be text.
std::string read_part(const Json& value, const std::string& path) {
  Fields part(value, path);
  const std::string type = part.required_text("type", kMostNameBytes);
  if (type == "refusal") {
    const std::string text = part.required_text("refusal");
    part.done();
    return text;
  }
  if (type != "text") {
    throw invalid_field(
        path,
        fmt::format("{} is of type '{}': text alone can be read", path, type))
        .with_code("unsupported");
  }
  const std::string text = part.required_text("text");
  // Where others' caches begin; ours find out for themselves.
  part.accept({"cache_control", "prompt_cache_breakpoint", "annotations"});
  part.done();
  return text;
}

// A string or parts of text, which are put together line by line as vLLM and
// llama.cpp do. Empty without.
std::optional<std::string> read_content(Fields& message) {
  const Json* value = message.value("content");
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_array()) {
    if (!value->is_string()) {
      message.reject("content", "must be a string or an array of parts");
    }
    return value->get<std::string>();
  }
  std::string content;
  size_t index = 0;
  for (const Json& each : *value) {
    const std::string path =
        fmt::format("{}[{}]", message.path("content"), index);
    content += (index++ > 0 ? "\n" : "") + read_part(each, path);
  }
  return content;
}

// A call that an earlier answer had, as it was sent to the client.
ToolCall
read_call(const Json& value, const std::string& path, JsonTexts& texts) {
  Fields fields(value, path);
  fields.word("type", {"function"});
  fields.accept({"index"}); // of a stream's chunk, by clients that join them
  ToolCall call;
  call.id = fields.text("id", kMostNameBytes).value_or("");
  const Json* inner = fields.object("function");
  if (!inner) {
    fields.reject("function", "is missing");
  }
  Fields function(*inner, fields.path("function"));
  call.name = function.required_text("name", kMostNameBytes);
  call.arguments = function.text("arguments").value_or("");
  if (call.arguments.empty()) {
    call.arguments = "{}";
  }
  texts.check(call.arguments, function.path("arguments"));
  function.accept({"parsed_arguments"}); // what OpenAI's own client adds
  function.done();
  fields.done();
  return call;
}

void read_assistant(
    Fields& fields,
    const ServerLimits& limits,
    JsonTexts& texts,
    ChatMessage& message) {
  if (const Json* calls = fields.array("tool_calls", limits.tools)) {
    for (const Json& each : *calls) {
      message.tool_calls.push_back(read_call(
          each,
          fmt::format(
              "{}[{}]", fields.path("tool_calls"), message.tool_calls.size()),
          texts));
    }
  }
  const auto reasoning = fields.text("reasoning_content");
  const auto same = fields.text("reasoning"); // vLLM's name
  message.reasoning = reasoning ? *reasoning : same.value_or("");
  const auto refusal = fields.text("refusal");
  if (refusal && message.content.empty()) {
    message.content = *refusal;
  }
  // Of an answer that is sent back; OpenAI's own client adds "parsed".
  fields.accept({"annotations", "parsed"});
  fields.refuse("audio", "cannot be read: only text can");
  fields.refuse("function_call", "is no longer in use: send tool_calls");
}

// Clients that write all fields of a message write null or nothing into them.
void refuse_assistants_fields(Fields& fields) {
  for (const char* field :
       {"tool_calls",
        "reasoning_content",
        "reasoning",
        "refusal",
        "annotations",
        "parsed",
        "audio",
        "function_call"}) {
    fields.refuse(
        field, "is for messages of the role 'assistant'", {"[]", "\"\""});
  }
}

std::string read_role(Fields& fields) {
  const std::string role = fields.required_text("role", kMostNameBytes);
  if (role == "function") {
    fields.reject("role", "'function' is no longer in use: send 'tool'");
  }
  fields.word("role", {"system", "developer", "user", "assistant", "tool"});
  return role == "developer" ? "system" : role;
}

ChatMessage read_message(
    const Json& value,
    std::string path,
    const ServerLimits& limits,
    JsonTexts& texts) {
  Fields fields(value, std::move(path));
  ChatMessage message;
  message.role = read_role(fields);
  const auto content = read_content(fields);
  message.content = content.value_or("");
  message.name = fields.text("name", kMostNameBytes).value_or("");
  if (message.role == "assistant") {
    read_assistant(fields, limits, texts, message);
  } else {
    refuse_assistants_fields(fields);
    if (!content) {
      fields.reject("content", "is missing");
    }
  }
  if (message.role == "tool") {
    message.tool_call_id = fields.required_text("tool_call_id", kMostNameBytes);
  } else {
    fields.refuse(
        "tool_call_id", "is for messages of the role 'tool'", {"\"\""});
  }
  fields.done();
  return message;
}

} // namespace

std::vector<ChatMessage> read_messages(
    Fields& fields,
    const ServerLimits& limits) {
  const Json& array = fields.required_array("messages", limits.messages);
  if (array.empty()) {
    fields.reject("messages", "must have one entry at least");
  }
  JsonTexts texts(json_limits(limits));
  std::vector<ChatMessage> messages;
  for (const Json& each : array) {
    messages.push_back(read_message(
        each,
        fmt::format("{}[{}]", fields.path("messages"), messages.size()),
        limits,
        texts));
  }
  return messages;
}

} // namespace mlx_flash::server
