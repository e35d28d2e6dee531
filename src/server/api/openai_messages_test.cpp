#include "server/api/openai_messages.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

namespace {

// Of a conversation of this one message.
ChatMessage message_of(const std::string& message) {
  const Job job = read_chat("{\"messages\": [" + message + "]}");
  return conversation_of(job).messages.at(0);
}

std::string wrong(const std::string& message) {
  return wrong_in_chat("{\"messages\": [" + message + "]}");
}

} // namespace

TEST_CASE("openai messages: each role") {
  const Job job = read_chat(R"({"messages": [
      {"role": "system", "content": "s"},
      {"role": "developer", "content": "d"},
      {"role": "user", "content": "u", "name": "Ann"},
      {"role": "assistant", "content": "a", "reasoning_content": "r"},
      {"role": "tool", "content": "t", "tool_call_id": "call_1"}]})");
  const auto& messages = conversation_of(job).messages;
  REQUIRE(messages.size() == 5);
  CHECK(messages[0].role == "system");
  CHECK(messages[0].content == "s");
  CHECK(messages[1].role == "system");
  CHECK(messages[1].content == "d");
  CHECK(messages[2].role == "user");
  CHECK(messages[2].name == "Ann");
  CHECK(messages[3].role == "assistant");
  CHECK(messages[3].reasoning == "r");
  CHECK(messages[4].role == "tool");
  CHECK(messages[4].tool_call_id == "call_1");
}

TEST_CASE("openai messages: roles that are not") {
  CHECK(wrong(R"({"content": "x"})") == "messages[0].role");
  CHECK(wrong(R"({"role": "bot", "content": "x"})") == "messages[0].role");
  CHECK(wrong(R"({"role": 1, "content": "x"})") == "messages[0].role");
  CHECK(
      wrong(R"({"role": "function", "name": "f", "content": "x"})") ==
      "messages[0].role");
}

TEST_CASE("openai messages: parts of text are put together line by line") {
  const char* parts = R"({"role": "user", "content": [
      {"type": "text", "text": "a"},
      {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]})";
  CHECK(message_of(parts).content == "a\nb");
  CHECK(message_of(R"({"role": "user", "content": []})").content == "");
  CHECK(
      message_of(R"({"role": "assistant", "content": [
          {"type": "refusal", "refusal": "no"}]})")
          .content == "no");
}

TEST_CASE("openai messages: parts that are no text are refused by name") {
  for (const char* type :
       {"image_url", "input_audio", "file", "video_url", "thing"}) {
    ChatWishes wishes;
    const auto body = chat_body(
        R"({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": ")" +
        std::string(type) + R"(", "x": {}}]}]})");
    CAPTURE(type);
    try {
      read_chat_request(body, {}, wishes);
      FAIL("accepted");
    } catch (const ApiError& error) {
      CHECK(error.param == "messages[0].content[1]");
      CHECK(error.code == "unsupported");
      CHECK(std::string(error.what()).find(type) != std::string::npos);
    }
  }
}

TEST_CASE("openai messages: content that is none") {
  CHECK(wrong(R"({"role": "user"})") == "messages[0].content");
  CHECK(wrong(R"({"role": "user", "content": null})") == "messages[0].content");
  CHECK(wrong(R"({"role": "user", "content": 5})") == "messages[0].content");
  CHECK(
      wrong(R"({"role": "user", "content": ["a"]})") ==
      "messages[0].content[0]");
  CHECK(
      wrong(R"({"role": "user", "content": [{"text": "a"}]})") ==
      "messages[0].content[0].type");
  CHECK(
      wrong(R"({"role": "user", "content": [{"type": "text"}]})") ==
      "messages[0].content[0].text");
  CHECK(
      wrong(R"({"role": "user", "content": [
          {"type": "text", "text": "a", "more": 1}]})") ==
      "messages[0].content[0].more");
}

TEST_CASE("openai messages: an answer can be sent back as it came") {
  const ChatMessage message = message_of(R"({
      "role": "assistant", "content": null, "refusal": null,
      "annotations": [], "audio": null, "function_call": null,
      "reasoning_content": "hm", "parsed": {"a": 1},
      "tool_calls": [
        {"id": "call_1", "type": "function", "index": 0,
         "function": {"name": "look", "arguments": "{\"a\": 1}",
                      "parsed_arguments": {"a": 1}}},
        {"id": "call_2", "type": "function",
         "function": {"name": "wait", "arguments": ""}}]})");
  CHECK(message.content == "");
  CHECK(message.reasoning == "hm");
  REQUIRE(message.tool_calls.size() == 2);
  CHECK(message.tool_calls[0].id == "call_1");
  CHECK(message.tool_calls[0].name == "look");
  CHECK(message.tool_calls[0].arguments == "{\"a\": 1}");
  CHECK(message.tool_calls[1].arguments == "{}");
}

TEST_CASE(
    "openai messages: a refusal is what was said; reasoning has two "
    "names") {
  CHECK(
      message_of(R"({"role": "assistant", "refusal": "no"})").content == "no");
  CHECK(
      message_of(R"({"role": "assistant", "content": "c", "reasoning": "r"})")
          .reasoning == "r");
}

TEST_CASE("openai messages: calls must be calls") {
  const auto wrong_call = [](const std::string& call) {
    return wrong(R"({"role": "assistant", "tool_calls": [)" + call + "]}");
  };
  const std::string path = "messages[0].tool_calls[0]";
  CHECK(wrong_call("5") == path);
  CHECK(wrong_call("{}") == path + ".function");
  CHECK(
      wrong_call(R"({"type": "custom", "function": {"name": "f"}})") ==
      path + ".type");
  CHECK(wrong_call(R"({"function": {}})") == path + ".function.name");
  const auto wrong_arguments = [&](const std::string& arguments) {
    return wrong_call(
        R"({"function": {"name": "f", "arguments": )" + arguments + "}}");
  };
  CHECK(wrong_arguments(R"("{}")") == "");
  CHECK(wrong_arguments("{}") == path + ".function.arguments");
  CHECK(wrong_arguments(R"("[1]")") == path + ".function.arguments");
  CHECK(wrong_arguments(R"("{\"a\":")") == path + ".function.arguments");
  const std::string deep =
      "\"{\\\"a\\\":" + std::string(100, '[') + std::string(100, ']') + "}\"";
  CHECK(wrong_arguments(deep) == path + ".function.arguments");
}

TEST_CASE("openai messages: fields are for their roles") {
  CHECK(
      wrong(R"({"role": "user", "content": "x", "tool_calls": [{}]})") ==
      "messages[0].tool_calls");
  CHECK(
      wrong(R"({"role": "user", "content": "x", "reasoning_content": "r"})") ==
      "messages[0].reasoning_content");
  CHECK(
      wrong(R"({"role": "user", "content": "x", "tool_call_id": "c"})") ==
      "messages[0].tool_call_id");
  CHECK(
      wrong(R"({"role": "tool", "content": "x"})") ==
      "messages[0].tool_call_id");
  CHECK(
      wrong(R"({"role": "assistant", "function_call": {"name": "f"}})") ==
      "messages[0].function_call");
  CHECK(
      wrong(R"({"role": "assistant", "audio": {"id": "a"}})") ==
      "messages[0].audio");
}

TEST_CASE("openai messages: fields of other roles may be there, and empty") {
  CHECK(wrong(R"({"role": "user", "content": "x", "tool_calls": [],
          "tool_call_id": null, "refusal": null, "reasoning_content": "",
          "name": null})") == "");
  CHECK(wrong(R"({"role": "assistant", "content": "x", "tool_call_id": null,
          "tool_calls": null})") == "");
}

TEST_CASE("openai messages: one at least, and no more than may be") {
  CHECK(wrong_in_chat(R"({"messages": []})") == "messages");
  CHECK(wrong_in_chat(R"({"messages": null})") == "messages");
  CHECK(wrong_in_chat(R"({"messages": "hi"})") == "messages");
  CHECK(wrong_in_chat(R"({"messages": ["hi"]})") == "messages[0]");
  ServerLimits limits;
  limits.messages = 1;
  CHECK(wrong_in_chat("{}", limits) == "");
  CHECK(
      wrong_in_chat(
          R"({"messages": [{"role": "user", "content": "a"},
                           {"role": "user", "content": "b"}]})",
          limits) == "messages");
}

TEST_CASE("openai messages: arguments of calls are held to a body's limits") {
  ServerLimits limits;
  limits.json_depth = 8;
  limits.json_values = 36;
  const auto wrong_with = [&](const std::string& arguments, int calls) {
    auto body = chat_body(R"({"messages": [{"role": "assistant"}]})");
    for (int i = 0; i < calls; ++i) {
      body["messages"][0]["tool_calls"].push_back(
          {{"function", {{"name", "f"}, {"arguments", arguments}}}});
    }
    try {
      ChatWishes wishes;
      read_chat_request(body, limits, wishes);
    } catch (const ApiError& error) {
      return error.param;
    }
    return std::string();
  };
  CHECK(wrong_with(R"({"a": [1, 2, 3]})", 6) == "");
  // Each is small; together they have more values than a body may.
  CHECK(
      wrong_with(R"({"a": [1, 2, 3]})", 7) ==
      "messages[0].tool_calls[6].function.arguments");
  CHECK(
      wrong_with(R"({"a": )" + std::string(100'000, '['), 1) ==
      "messages[0].tool_calls[0].function.arguments");
}
