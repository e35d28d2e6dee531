#include "server/conversation.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/test_scripted_text.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

Json context_of(const Conversation& conversation) {
  return Json::parse(template_context(conversation, {}));
}

std::string render(const Conversation& conversation) {
  return ScriptedText().render_template(template_context(conversation, {}), 0);
}

ApiError error_of(const Conversation& conversation) {
  try {
    template_context(conversation, {});
  } catch (const ApiError& error) {
    return error;
  }
  FAIL("nothing was thrown");
  return ApiError(ApiErrorKind::internal, "");
}

ChatMessage user(const std::string& text) {
  return {"user", text};
}

ChatMessage calling(std::vector<ToolCall> calls, const std::string& text = {}) {
  ChatMessage message{"assistant", text};
  message.tool_calls = std::move(calls);
  return message;
}

} // namespace

TEST_CASE("conversation: is what transformers gives a template") {
  Conversation conversation{
      {{"system", "Be brief."}, user("Weather in Rome?")}};
  conversation.messages.push_back(
      calling({{"call_1", "weather", R"({"city":"Rome","days":2})"}}));
  conversation.messages.back().reasoning = "I should look.";
  ChatMessage result{"tool", "sunny"};
  result.tool_call_id = "call_1";
  result.name = "weather";
  conversation.messages.push_back(result);
  conversation.tools = {
      {"weather",
       "Tells the weather.",
       R"({"type":"object","properties":{"city":{"type":"string"}}})"}};
  CHECK(context_of(conversation) == Json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": "Weather in Rome?"},
      {"role": "assistant", "content": "", "reasoning_content": "I should look.",
       "tool_calls": [{"id": "call_1", "type": "function", "function":
         {"name": "weather", "arguments": {"city": "Rome", "days": 2}}}]},
      {"role": "tool", "content": "sunny", "tool_call_id": "call_1",
       "name": "weather"}],
    "tools": [{"type": "function", "function": {
      "name": "weather", "description": "Tells the weather.",
      "parameters": {"type": "object",
                     "properties": {"city": {"type": "string"}}}}}],
    "add_generation_prompt": true})"));
}

TEST_CASE("conversation: what is empty is left out, but for the content") {
  Conversation conversation{{user("")}};
  CHECK(
      template_context(conversation, {}) ==
      R"({"messages":[{"role":"user","content":""}],)"
      R"("add_generation_prompt":true})");
}

TEST_CASE(
    "conversation: fields keep the order in which the client wrote them") {
  Conversation conversation{
      {calling({{"1", "f", R"({"z":1,"a":{"y":2,"b":3}})"}})}};
  conversation.tools = {{"f", "", R"({"type":"object","z":1,"a":2})"}};
  const std::string context = template_context(conversation, {});
  CHECK(context.find(R"({"z":1,"a":{"y":2,"b":3}})") != std::string::npos);
  CHECK(context.find(R"({"type":"object","z":1,"a":2})") != std::string::npos);
}

TEST_CASE("conversation: a tool without parameters takes any object") {
  Conversation conversation{{user("hi")}};
  conversation.tools = {{"now"}};
  CHECK(context_of(conversation).at("tools") == Json::parse(R"([
        {"type": "function", "function": {"name": "now",
         "parameters": {"type": "object", "properties": {}}}}])"));
}

TEST_CASE("conversation: calls without arguments have an empty object") {
  const Conversation conversation{{calling({{"1", "now", ""}})}};
  CHECK(
      context_of(conversation)
          .at("/messages/0/tool_calls/0/function/arguments"_json_pointer) ==
      Json::object());
}

TEST_CASE("conversation: arguments that are no object are named") {
  const auto error_for = [](const std::string& arguments) {
    return error_of(
        {{user("hi"), calling({{"1", "f", "{}"}, {"2", "g", arguments}})}});
  };
  const std::string field = "messages[1].tool_calls[1].function.arguments";
  for (const std::string bad :
       {"[1]", "\"text\"", "1", "null", "{\"a\":", "{} {}", "\xff", " "}) {
    CAPTURE(bad);
    const ApiError error = error_for(bad);
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    CHECK(error.param == field);
    CHECK(std::string(error.what()).rfind(field, 0) == 0);
  }
  // As deep as a stack would not hold.
  std::string deep = "{\"a\":" + std::string(100000, '[');
  deep += std::string(100000, ']') + "}";
  CHECK(error_for(deep).param == field);
}

TEST_CASE("conversation: parameters that are no object are named") {
  Conversation conversation{{user("hi")}};
  conversation.tools = {{"a"}, {"b", "", "[]"}};
  CHECK(error_of(conversation).param == "tools[1].function.parameters");
}

TEST_CASE("conversation: text that is not UTF-8 is refused") {
  CHECK(error_of({{user("\xff")}}).kind() == ApiErrorKind::invalid_request);
}

TEST_CASE("conversation: says whether to think only where that was asked") {
  Conversation conversation{{user("hi")}};
  CHECK(!context_of(conversation).contains("enable_thinking"));
  conversation.thinking = false;
  CHECK(context_of(conversation).at("enable_thinking") == false);
  conversation.thinking = true;
  CHECK(context_of(conversation).at("enable_thinking") == true);
}

TEST_CASE("conversation: has more values for the template") {
  Conversation conversation{{user("hi")}};
  conversation.thinking = true;
  conversation.template_values =
      R"({"enable_thinking":false,"style":{"short":true},)"
      R"("add_generation_prompt":false})";
  const Json context = context_of(conversation);
  CHECK(context.at("enable_thinking") == false);
  CHECK(context.at("style") == Json{{"short", true}});
  CHECK(context.at("add_generation_prompt") == false);

  conversation.template_values = R"({"messages":[]})";
  CHECK(error_of(conversation).param == "chat_template_kwargs.messages");
  conversation.template_values = R"({"tools":[]})";
  CHECK(error_of(conversation).param == "chat_template_kwargs.tools");
  conversation.template_values = "[]";
  CHECK(error_of(conversation).param == "chat_template_kwargs");
}

TEST_CASE("conversation: renders as Qwen3's template does") {
  Conversation conversation{{user("Weather?")}};
  conversation.messages.push_back(calling(
      {{"1", "weather", R"({"city": "Rome"})"}, {"2", "now", ""}}, "Looking."));
  conversation.messages.back().reasoning = "Hm.";
  conversation.messages.push_back({"tool", "sunny"});
  conversation.messages.push_back({"tool", "noon"});
  conversation.thinking = false;
  CHECK(
      render(conversation) ==
      "<|im_start|>user\nWeather?<|im_end|>\n"
      "<|im_start|>assistant\n<think>\nHm.\n</think>\n\nLooking.\n"
      "<tool_call>\n{\"name\": \"weather\", \"arguments\": "
      "{\"city\":\"Rome\"}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"
      "<|im_end|>\n"
      "<|im_start|>user\n<tool_response>\nsunny\n</tool_response>\n"
      "<tool_response>\nnoon\n</tool_response><|im_end|>\n"
      "<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

TEST_CASE("conversation: its JSON keeps to the limits, all of it together") {
  Conversation conversation;
  for (int i = 0; i < 3; ++i) {
    conversation.messages.push_back(calling({{"1", "f", R"({"a": [1, 2]})"}}));
  }
  conversation.tools = {{"f", "", R"({"type": "object"})"}};
  conversation.template_values = R"({"b": 1})";
  const auto wrong_with = [&](size_t values) {
    JsonLimits limits;
    limits.values = values;
    try {
      template_context(conversation, limits);
    } catch (const ApiError& error) {
      return error.param;
    }
    return std::string();
  };
  CHECK(wrong_with(21) == "");
  CHECK(wrong_with(20) == "chat_template_kwargs");
  CHECK(wrong_with(17) == "tools[0].function.parameters");
  CHECK(wrong_with(14) == "messages[2].tool_calls[0].function.arguments");
  JsonLimits flat;
  flat.depth = 1;
  CHECK_THROWS_AS(template_context(conversation, flat), ApiError);
}
