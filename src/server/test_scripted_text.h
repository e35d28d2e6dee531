// For tests: a tokenizer and a chat template in a few lines. A token is a byte
// (ids 0 to 255) or one of the marks below (from 256 on); prompts are ChatML as
// Qwen3's template writes it, so what is known of that model's answers holds
// for this one.
//
// Thread rule: immutable.
#pragma once

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/chat.h"
#include "mlx_flash/error.h"

namespace mlx_flash::server {

inline constexpr std::array<const char*, 6> kScriptedMarks{
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>"};
inline constexpr TokenId kScriptedStart = 256;
inline constexpr TokenId kScriptedEnd = 257; // the end token
inline constexpr uint64_t kScriptedVocab = 262;

class ScriptedText : public Text {
 public:
  std::vector<TokenId> encode(std::string_view text, bool) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) {
      const auto mark = std::find_if(
          kScriptedMarks.begin(),
          kScriptedMarks.end(),
          [&](std::string_view m) { return text.substr(0, m.size()) == m; });
      if (mark == kScriptedMarks.end()) {
        ids.push_back(static_cast<unsigned char>(text[0]));
        text.remove_prefix(1);
      } else {
        ids.push_back(
            256 + static_cast<TokenId>(mark - kScriptedMarks.begin()));
        text.remove_prefix(std::string_view(*mark).size());
      }
    }
    return ids;
  }

  std::string decode(std::span<const TokenId> ids, bool skip_special)
      const override {
    std::string text;
    for (const TokenId id : ids) {
      text += skip_special && is_special(id) ? std::string() : piece(id);
    }
    return text;
  }

  std::string piece(TokenId id) const override {
    if (id >= kScriptedVocab) {
      throw Error(ErrorCode::invalid_argument, "[scripted] no such token");
    }
    return id < 256 ? std::string(1, static_cast<char>(id))
                    : kScriptedMarks[id - 256];
  }

  // Not part of an answer's text.
  static bool is_special(TokenId id) {
    return id == kScriptedStart || id == kScriptedEnd;
  }

  std::string bytes(TokenId id) const override {
    return piece(id);
  }

  uint64_t vocab_size() const override {
    return kScriptedVocab;
  }
  bool has_tokenizer() const override {
    return true;
  }

  // Those parts of Qwen3's template that tell its forms; render_template() is
  // what it does.
  std::string template_source() const override {
    return R"({%- if tools %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if '</think>' in message.content %}
        {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
    {%- for tool_call in message.tool_calls %}
        {{- '<tool_call>\n{"name": "' }}
        {{- tool_call.name }}
        {{- '", "arguments": ' }}
        {{- tool_call.arguments | tojson }}
        {{- '}\n</tool_call>' }}
    {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %})";
  }

  std::string render_chat(std::span<const Message> messages) const override {
    Json context{{"add_generation_prompt", true}};
    for (const Message& each : messages) {
      context["messages"].push_back(
          {{"role", each.role}, {"content", each.content}});
    }
    return render_template(context.dump(), 0);
  }

  // Throws Error(invalid_argument) for a conversation without messages, as
  // templates complain. One value more is known: "think_first", which has the
  // answer begin inside reasoning, whether it was asked for or not.
  std::string render_template(std::string_view context_json, int64_t)
      const override {
    const Json context = Json::parse(context_json);
    const Json& messages = context.at("messages");
    if (messages.empty()) {
      throw Error(ErrorCode::invalid_argument, "[template] no messages");
    }
    std::string prompt = head(context);
    const size_t query = last_query(messages);
    for (size_t i = 0; i < messages.size(); ++i) {
      prompt += render_message(messages, i, query);
    }
    if (context.value("add_generation_prompt", false)) {
      prompt += "<|im_start|>assistant\n";
      prompt += context.value("think_first", false) ? "<think>\n"
          : !context.value("enable_thinking", true) ? "<think>\n\n</think>\n\n"
                                                    : "";
    }
    return prompt;
  }

 private:
  using Json = nlohmann::ordered_json;

  static std::string head(const Json& context) {
    const Json& first = context.at("messages").at(0);
    const bool system = first.at("role") == "system";
    const std::string text = system ? first.at("content") : Json("");
    if (!context.contains("tools") || context.at("tools").empty()) {
      return system ? "<|im_start|>system\n" + text + "<|im_end|>\n" : "";
    }
    std::string prompt =
        "<|im_start|>system\n" + (system ? text + "\n\n" : "") + "# Tools\n";
    for (const Json& tool : context.at("tools")) {
      prompt += "\n" + tool.dump();
    }
    return prompt + "\n</tools><|im_end|>\n";
  }

  // Reasoning of turns before it is not repeated.
  static size_t last_query(const Json& messages) {
    for (size_t i = messages.size(); i > 0; --i) {
      if (messages[i - 1].at("role") == "user") {
        return i - 1;
      }
    }
    return messages.size() - 1;
  }

  static std::string
  render_message(const Json& messages, size_t i, size_t query) {
    const Json& message = messages[i];
    const std::string role = message.at("role");
    const std::string content = message.at("content");
    if (role == "tool") {
      const bool opens = i == 0 || messages[i - 1].at("role") != "tool";
      const bool closes =
          i + 1 == messages.size() || messages[i + 1].at("role") != "tool";
      return (opens ? std::string("<|im_start|>user") : std::string()) +
          "\n<tool_response>\n" + content + "\n</tool_response>" +
          (closes ? "<|im_end|>\n" : "");
    }
    if (role == "system" && i == 0) {
      return {};
    }
    std::string text = "<|im_start|>" + role + "\n";
    const std::string reasoning = message.value("reasoning_content", "");
    if (role == "assistant" && i > query &&
        (i + 1 == messages.size() || !reasoning.empty())) {
      text += "<think>\n" + reasoning + "\n</think>\n\n";
    }
    text += content;
    if (message.contains("tool_calls")) {
      bool first = true;
      for (const Json& call : message.at("tool_calls")) {
        const Json& function = call.at("function");
        text += (first && content.empty() ? "" : "\n");
        text += "<tool_call>\n{\"name\": " + function.at("name").dump() +
            ", \"arguments\": " + function.at("arguments").dump() +
            "}\n</tool_call>";
        first = false;
      }
    }
    return text + "<|im_end|>\n";
  }
};

} // namespace mlx_flash::server
