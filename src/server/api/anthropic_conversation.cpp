#include "server/api/anthropic_conversation.h"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostIdBytes = 256;
constexpr std::string_view kOurPrefix = "call_";
constexpr std::string_view kTheirPrefix = "toolu_";
constexpr std::string_view kSignature = "mlx-flash";

// Claude Code's first line of "system". It counts requests, and so would let no
// prompt begin like another.
constexpr std::string_view kBillingLine = "x-anthropic-billing-header:";

bool begins_with(std::string_view text, std::string_view beginning) {
  return text.substr(0, beginning.size()) == beginning;
}

std::string without_billing_line(std::string text) {
  if (begins_with(text, kBillingLine)) {
    const size_t end = text.find('\n');
    text.erase(0, end == std::string::npos ? end : end + 1);
  }
  return text;
}

constexpr std::string_view kReminder = "<system-reminder>";

// Blocks of text are paragraphs.
void append_paragraph(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) {
    text += "\n\n";
  }
  text += more;
}

class Reader {
 public:
  explicit Reader(const ServerLimits& limits) : limits_(limits) {}

  void read_system(Fields& body);
  void read_messages(Fields& body);
  std::vector<ChatMessage> take() {
    return std::move(messages_);
  }

 private:
  using ReadBlock = std::function<void(Fields&, const std::string& type)>;

  void read_message(Fields& fields, bool users_follow);
  void read_system_message(Fields& fields, bool users_follow);
  void read_user_block(Fields& block, const std::string& type);
  void read_assistant_block(Fields& block, const std::string& type);
  void read_thinking(Fields& block);
  void read_call(Fields& block);
  void read_result(Fields& block);
  std::string read_text(Fields& block);
  std::string read_texts(Fields& fields, const char* field);

  // Each block of a string, or of an array of blocks.
  void each_block(Fields& fields, const char* field, const ReadBlock& read);
  [[noreturn]] void refuse(Fields& block, const std::string& type) const;
  // The message that text of this role belongs to.
  ChatMessage& turn(const std::string& role);
  void append_reminder(std::string_view text);

  const ServerLimits& limits_;
  std::vector<ChatMessage> messages_;
  std::map<std::string, std::string> call_names_; // by id
};

ChatMessage& Reader::turn(const std::string& role) {
  if (messages_.empty() || messages_.back().role != role) {
    messages_.push_back({role});
  }
  return messages_.back();
}

// To templates a user's message is a new question, before which they leave out
// the thinking: a reminder that comes with a tool's result is part of that.
void Reader::append_reminder(std::string_view text) {
  const bool follows_result =
      !messages_.empty() && messages_.back().role == "tool";
  append_paragraph(
      follows_result ? messages_.back().content : turn("user").content, text);
}

void Reader::refuse(Fields& block, const std::string& type) const {
  block.reject(
      "type",
      fmt::format(
          "is '{}', which is not supported here: text, and calls and results "
          "of tools can be read",
          type.substr(0, 64)));
}

void Reader::each_block(
    Fields& fields,
    const char* field,
    const ReadBlock& read) {
  const Json* value = fields.value(field);
  if (value && value->is_string()) {
    const Json text = {{"type", "text"}, {"text", *value}};
    Fields block(text, fields.path(field));
    read(block, block.required_text("type"));
    return;
  }
  const Json* blocks = fields.array(field, limits_.messages);
  for (size_t i = 0; blocks && i < blocks->size(); ++i) {
    Fields block((*blocks)[i], fmt::format("{}[{}]", fields.path(field), i));
    read(block, block.required_text("type"));
    block.done();
  }
}

std::string Reader::read_text(Fields& block) {
  block.accept({"cache_control", "citations"});
  return block.required_text("text");
}

// Of blocks of text alone.
std::string Reader::read_texts(Fields& fields, const char* field) {
  std::string text;
  each_block(fields, field, [&](Fields& block, const std::string& type) {
    if (type != "text") {
      refuse(block, type);
    }
    append_paragraph(text, without_billing_line(read_text(block)));
  });
  return text;
}

void Reader::read_system(Fields& body) {
  const std::string text = read_texts(body, "system");
  if (!text.empty()) {
    turn("system").content = text;
  }
}

void Reader::read_messages(Fields& body) {
  const Json& messages = body.required_array("messages", limits_.messages);
  size_t last_user = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool is_user =
        messages[i].is_object() && messages[i].value("role", Json()) == "user";
    last_user = is_user ? i : last_user;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    Fields fields(messages[i], fmt::format("{}[{}]", body.path("messages"), i));
    read_message(fields, i < last_user);
    fields.done();
  }
  if (messages_.empty() || messages_.back().role == "system") {
    body.reject("messages", "must hold a message of the user");
  }
}

void Reader::read_message(Fields& fields, bool users_follow) {
  const auto role = fields.word("role", {"user", "assistant", "system"});
  if (!role) {
    fields.reject("role", "is missing");
  }
  if (*role == "system") {
    read_system_message(fields, users_follow);
    return;
  }
  if (!fields.has("content")) {
    fields.reject("content", "is missing");
  }
  const bool is_user = *role == "user";
  each_block(fields, "content", [&](Fields& block, const std::string& type) {
    is_user ? read_user_block(block, type) : read_assistant_block(block, type);
  });
}

// Templates know a system's message in the first place alone, and joining a
// later one to it would change the beginning of the prompt: it is given in its
// place, in the tags in which Claude Code writes reminders.
void Reader::read_system_message(Fields& fields, bool users_follow) {
  const std::string text = read_texts(fields, "content");
  const auto clear_at = fields.word("clear_at", {"next_user_message", "never"});
  fields.accept({"output_config"}); // with an effort for this turn
  if (text.empty() || (clear_at == "next_user_message" && users_follow)) {
    return;
  }
  if (messages_.empty() || messages_.back().role == "system") {
    append_paragraph(turn("system").content, text);
    return;
  }
  append_reminder(fmt::format("{}\n{}\n</system-reminder>", kReminder, text));
}

void Reader::read_user_block(Fields& block, const std::string& type) {
  if (type == "text") {
    const std::string text = read_text(block);
    if (begins_with(text, kReminder)) {
      append_reminder(text);
    } else {
      append_paragraph(turn("user").content, text);
    }
  } else if (type == "tool_result") {
    read_result(block);
  } else {
    refuse(block, type);
  }
}

// Text and thinking come back in the pieces in which they were sent.
void Reader::read_assistant_block(Fields& block, const std::string& type) {
  if (type == "text") {
    turn("assistant").content += read_text(block);
  } else if (type == "thinking") {
    read_thinking(block);
  } else if (type == "redacted_thinking") {
    block.required_text("data"); // nobody here could read it
    block.accept({"cache_control"});
  } else if (type == "tool_use") {
    read_call(block);
  } else {
    refuse(block, type);
  }
}

void Reader::read_thinking(Fields& block) {
  const std::string thinking = block.required_text("thinking");
  const std::string signature = block.text("signature").value_or("");
  block.accept({"cache_control"});
  turn("assistant").reasoning +=
      thinking.empty() ? hidden_thinking(signature) : thinking;
}

void Reader::read_call(Fields& block) {
  ToolCall call;
  call.id = from_anthropic_call_id(block.required_text("id", kMostIdBytes));
  call.name = block.required_text("name", kMostIdBytes);
  const Json* input = block.object("input");
  if (!input) {
    block.reject("input", "is missing");
  }
  call.arguments = input->dump();
  block.accept({"cache_control", "caller"});
  block.refuse("toolset_name", "is not supported");
  call_names_[call.id] = call.name;
  turn("assistant").tool_calls.push_back(std::move(call));
}

void Reader::read_result(Fields& block) {
  ChatMessage message{"tool"};
  message.tool_call_id =
      from_anthropic_call_id(block.required_text("tool_use_id", kMostIdBytes));
  const auto name = call_names_.find(message.tool_call_id);
  if (name == call_names_.end()) {
    block.reject("tool_use_id", "is not the id of a tool_use before it");
  }
  message.name = name->second;
  each_block(block, "content", [&](Fields& inner, const std::string& type) {
    if (type == "text") {
      append_paragraph(message.content, read_text(inner));
    } else if (type == "tool_reference") {
      append_paragraph(
          message.content,
          fmt::format(
              "The tool {} can be used now.",
              inner.required_text("tool_name", kMostIdBytes)));
      inner.accept({"cache_control"});
    } else {
      refuse(inner, type);
    }
  });
  if (block.boolean("is_error").value_or(false)) {
    message.content.insert(0, message.content.empty() ? "Error" : "Error: ");
  }
  block.accept({"cache_control"});
  block.refuse("toolset_name", "is not supported");
  messages_.push_back(std::move(message));
}

} // namespace

std::vector<ChatMessage> read_anthropic_messages(
    Fields& body,
    const ServerLimits& limits) {
  Reader reader(limits);
  reader.read_system(body);
  reader.read_messages(body);
  return reader.take();
}

std::string to_anthropic_call_id(std::string_view id) {
  return std::string(kTheirPrefix)
      .append(begins_with(id, kOurPrefix) ? id.substr(kOurPrefix.size()) : id);
}

std::string from_anthropic_call_id(std::string_view id) {
  return begins_with(id, kTheirPrefix)
      ? std::string(kOurPrefix).append(id.substr(kTheirPrefix.size()))
      : std::string(id);
}

std::string anthropic_signature(std::string_view hidden) {
  std::string signature(kSignature);
  if (!hidden.empty()) {
    signature.append(":").append(hidden);
  }
  return signature;
}

std::string hidden_thinking(std::string_view signature) {
  const std::string beginning = std::string(kSignature) + ":";
  return begins_with(signature, beginning)
      ? std::string(signature.substr(beginning.size()))
      : std::string();
}

} // namespace mlx_flash::server
