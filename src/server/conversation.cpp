#include "server/conversation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/json_texts.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

// Templates write arguments themselves, each in its model's form, so they need
// the object, not its text.
Json object_of(
    const std::string& text,
    const std::string& field,
    const Json& when_empty,
    JsonTexts& texts) {
  return text.empty() ? when_empty : texts.parse(text, field);
}

Json calls_of(
    const ChatMessage& message,
    const std::string& name,
    JsonTexts& texts) {
  Json calls = Json::array();
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    const ToolCall& call = message.tool_calls[i];
    const std::string field =
        fmt::format("{}.tool_calls[{}].function.arguments", name, i);
    calls.push_back(
        {{"id", call.id},
         {"type", "function"},
         {"function",
          {{"name", call.name},
           {"arguments",
            object_of(call.arguments, field, Json::object(), texts)}}}});
  }
  return calls;
}

// What is empty is left out, as clients leave it out, but for the content:
// templates look into that without asking whether there is any.
Json message_of(
    const ChatMessage& message,
    const std::string& name,
    JsonTexts& texts) {
  Json result{{"role", message.role}, {"content", message.content}};
  const auto set = [&](const char* field, const std::string& value) {
    if (!value.empty()) {
      result[field] = value;
    }
  };
  set("reasoning_content", message.reasoning);
  if (!message.tool_calls.empty()) {
    result["tool_calls"] = calls_of(message, name, texts);
  }
  set("tool_call_id", message.tool_call_id);
  set("name", message.name);
  return result;
}

Json tool_of(const Tool& tool, const std::string& name, JsonTexts& texts) {
  const Json any{{"type", "object"}, {"properties", Json::object()}};
  Json function{{"name", tool.name}};
  if (!tool.description.empty()) {
    function["description"] = tool.description;
  }
  function["parameters"] =
      object_of(tool.parameters, name + ".function.parameters", any, texts);
  return {{"type", "function"}, {"function", std::move(function)}};
}

void add_template_values(
    Json& context,
    const std::string& text,
    JsonTexts& texts) {
  const char* field = "chat_template_kwargs";
  const Json values = object_of(text, field, Json::object(), texts);
  for (const auto& [name, value] : values.items()) {
    if (name == "messages" || name == "tools") {
      const std::string path = fmt::format("{}.{}", field, name);
      throw invalid_field(
          path, path + " is the conversation's own; leave it out");
    }
    context[name] = value;
  }
}

} // namespace

void check_last_role(
    const Conversation& conversation,
    const std::string& field) {
  const std::vector<ChatMessage>& messages = conversation.messages;
  if (!messages.empty() && messages.back().role == "assistant") {
    throw invalid_field(
        field,
        field +
            " must not end with the assistant's: answers that are begun "
            "by the request (prefill) are not supported; ask for the form in "
            "words, or for a schema");
  }
}

std::string template_context(
    const Conversation& conversation,
    const JsonLimits& limits) {
  JsonTexts texts(limits);
  Json context{{"messages", Json::array()}};
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    context["messages"].push_back(message_of(
        conversation.messages[i], fmt::format("messages[{}]", i), texts));
  }
  for (size_t i = 0; i < conversation.tools.size(); ++i) {
    context["tools"].push_back(
        tool_of(conversation.tools[i], fmt::format("tools[{}]", i), texts));
  }
  context["add_generation_prompt"] = true;
  if (conversation.thinking) {
    context["enable_thinking"] = *conversation.thinking;
  }
  add_template_values(context, conversation.template_values, texts);
  try {
    return context.dump();
  } catch (const Json::exception&) {
    throw invalid_field("messages", "messages must be valid UTF-8");
  }
}

} // namespace mlx_flash::server
