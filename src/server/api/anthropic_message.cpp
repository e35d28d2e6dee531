#include "server/api/anthropic_message.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>

#include "server/api/anthropic_conversation.h"
#include "server/api/routes.h"
#include "server/fields.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

std::string new_message_id() {
  constexpr std::string_view letters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr int kLength = 24;
  std::random_device source;
  std::uniform_int_distribution<size_t> pick(0, letters.size() - 1);
  std::string id("msg_");
  for (int i = 0; i < kLength; ++i) {
    id += letters[pick(source)];
  }
  return id;
}

Json read_arguments(const ToolCall& call) {
  if (call.arguments.empty()) {
    return Json::object();
  }
  try {
    return parse_body(call.arguments, JsonLimits{});
  } catch (const ApiError&) {
    throw ApiError(
        ApiErrorKind::internal,
        fmt::format(
            "the model's call of '{}' has arguments that are no JSON object",
            call.name));
  }
}

// In the order in which they were made, as a stream tells them.
void append_text_and_calls(Json& content, const CollectedChoice& choice) {
  size_t told = 0;
  const auto append_text = [&](size_t end) {
    if (told < end) {
      content.push_back(
          anthropic_text_block(choice.content.substr(told, end - told)));
      told = end;
    }
  };
  for (size_t i = 0; i < choice.tool_calls.size(); ++i) {
    const ToolCall& call = choice.tool_calls[i];
    append_text(choice.call_places.at(i));
    content.push_back(
        anthropic_tool_use_block(call.id, call.name, read_arguments(call)));
  }
  append_text(choice.content.size());
}

} // namespace

AnthropicAnswer make_anthropic_answer(const AnthropicRequest& request) {
  return {
      new_message_id(),
      request.job.model,
      request.shows_thinking,
      request.edits_context};
}

Json anthropic_usage(const Usage& usage) {
  return {
      {"input_tokens", usage.prompt_tokens - usage.cached_tokens},
      {"cache_creation_input_tokens", 0},
      {"cache_read_input_tokens", usage.cached_tokens},
      {"output_tokens", usage.completion_tokens},
      {"output_tokens_details", {{"thinking_tokens", usage.reasoning_tokens}}},
  };
}

const char* anthropic_stop_reason(const ChoiceEnd& end) {
  if (!end.stop_string.empty()) {
    return "stop_sequence";
  }
  switch (end.reason) {
    case ChoiceEnd::Reason::length:
      return "max_tokens";
    case ChoiceEnd::Reason::tool_calls:
      return "tool_use";
    case ChoiceEnd::Reason::stop:
    case ChoiceEnd::Reason::cancelled:
      break;
  }
  return "end_turn";
}

Json anthropic_stop_sequence(const ChoiceEnd& end) {
  return end.stop_string.empty() ? Json(nullptr) : Json(end.stop_string);
}

Json anthropic_no_edits() {
  return {{"applied_edits", Json::array()}};
}

Json anthropic_text_block(std::string_view text) {
  return {{"type", "text"}, {"text", text}};
}

Json anthropic_thinking_block(
    std::string_view thinking,
    std::string_view signature) {
  return {
      {"type", "thinking"}, {"thinking", thinking}, {"signature", signature}};
}

Json anthropic_tool_use_block(
    std::string_view call_id,
    std::string_view name,
    Json input) {
  return {
      {"type", "tool_use"},
      {"id", to_anthropic_call_id(call_id)},
      {"name", name},
      {"input", std::move(input)},
  };
}

Json anthropic_empty_message(
    const AnthropicAnswer& answer,
    const Usage& usage) {
  return {
      {"id", answer.id},
      {"type", "message"},
      {"role", "assistant"},
      {"model", answer.model},
      {"content", Json::array()},
      {"stop_reason", nullptr},
      {"stop_sequence", nullptr},
      {"usage", anthropic_usage(usage)},
  };
}

Json anthropic_message(
    const AnthropicAnswer& answer,
    const CollectedAnswer& collected) {
  const CollectedChoice& choice = collected.choices.at(0);
  Json message = anthropic_empty_message(answer, collected.usage);
  message["model"] = collected.start.model;
  Json& content = message["content"];
  if (!choice.reasoning.empty()) {
    const bool shown = answer.shows_thinking;
    content.push_back(anthropic_thinking_block(
        shown ? choice.reasoning : "",
        anthropic_signature(shown ? "" : choice.reasoning)));
  }
  append_text_and_calls(content, choice);
  message["stop_reason"] = anthropic_stop_reason(choice.end);
  message["stop_sequence"] = anthropic_stop_sequence(choice.end);
  if (answer.edits_context) {
    message["context_management"] = anthropic_no_edits();
  }
  return message;
}

HttpResponse anthropic_error(const ApiError& error) {
  if (error.code != "context_length_exceeded") {
    return error_response(Dialect::anthropic, error);
  }
  const std::string message =
      fmt::format("prompt is too long: {}", error.what());
  return error_response(Dialect::anthropic, ApiError(error.kind(), message));
}

std::string anthropic_dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace mlx_flash::server
