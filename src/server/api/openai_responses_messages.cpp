#include "server/api/openai_responses_messages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api/openai_responses_items.h"
#include "server/api_error.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

// Some clients end the namespace's own name so.
std::string name_in_namespace(
    const std::string& name_space,
    const std::string& name) {
  const bool ended = name_space.size() >= 2 &&
      name_space.compare(name_space.size() - 2, 2, "__") == 0;
  return name_space + (ended || name_space.empty() ? "" : "__") + name;
}

void ResponseMessages::add_instructions(const std::string& text) {
  add_message("system", text);
}

void ResponseMessages::add(const Json& item, const std::string& name) {
  const auto& type = item.at("type").get_ref<const std::string&>();
  if (type == "reasoning") {
    add_reasoning(item);
  } else if (type == "function_call") {
    add_call(item);
  } else if (type == "function_call_output") {
    add_result(item, name);
  } else {
    add_message(item.at("role"), text_of_parts(item.at("content")));
  }
}

std::vector<ChatMessage> ResponseMessages::take() {
  return std::move(messages_);
}

void ResponseMessages::add_message(const std::string& role, std::string text) {
  if (role == "assistant") {
    assistant(true).content += text;
    return;
  }
  open_ = false;
  const bool system = role == "system" || role == "developer";
  // Most templates know of one system message, at the beginning.
  if (system && messages_.size() == 1 && messages_[0].role == "system") {
    messages_[0].content += "\n\n" + text;
    return;
  }
  messages_.push_back({system ? "system" : role, std::move(text)});
}

void ResponseMessages::add_reasoning(const Json& item) {
  const std::string text = text_of_parts(item.at("content"));
  if (text.empty()) {
    return;
  }
  std::string& reasoning = assistant(true).reasoning;
  reasoning += (reasoning.empty() ? "" : "\n") + text;
}

void ResponseMessages::add_call(const Json& item) {
  const std::string name = name_in_namespace(
      item.value("namespace", std::string()), item.at("name"));
  const std::string id = item.at("call_id");
  call_names_[id] = name;
  assistant(false).tool_calls.push_back({id, name, item.at("arguments")});
}

void ResponseMessages::add_result(const Json& item, const std::string& name) {
  const std::string id = item.at("call_id");
  const auto call = call_names_.find(id);
  if (call == call_names_.end()) {
    throw invalid_field(
        name + ".call_id",
        fmt::format(
            "{}.call_id is '{}', but there is no function_call of that call_id "
            "before it",
            name,
            id));
  }
  open_ = false;
  const Json& output = item.at("output");
  ChatMessage message{"tool"};
  message.content =
      output.is_string() ? output.get<std::string>() : text_of_parts(output);
  message.tool_call_id = id;
  message.name = call->second;
  messages_.push_back(std::move(message));
}

// The assistant's message that goes on, or a new one: whoever goes on where
// there is content already, but no call, says something new. What follows a
// call before its result belongs to the same answer.
ChatMessage& ResponseMessages::assistant(bool in_order) {
  if (open_ && in_order) {
    const ChatMessage& last = messages_.back();
    open_ = last.content.empty() || !last.tool_calls.empty();
  }
  if (!open_) {
    messages_.push_back({"assistant"});
    open_ = true;
  }
  return messages_.back();
}

} // namespace mlx_flash::server
