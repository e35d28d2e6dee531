#include <doctest/doctest.h>

#include "server/api/openai_messages.h"
#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

namespace {

constexpr const char* kTools = R"("tools": [
    {"type": "function", "function": {
      "name": "look", "description": "Looks.", "strict": true,
      "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}},
    {"type": "function", "function": {"name": "wait"}}])";

std::string with_tools(const std::string& more) {
  return "{" + std::string(kTools) + ", " + more + "}";
}

std::string wrong_tool(const std::string& tool) {
  return wrong_in_chat("{\"tools\": [" + tool + "]}");
}

ToolChoice choice_of(const std::string& value) {
  return read_chat(with_tools("\"tool_choice\": " + value)).tool_choice;
}

std::string wrong_choice(const std::string& value) {
  return wrong_in_chat(with_tools("\"tool_choice\": " + value));
}

} // namespace

TEST_CASE("openai tools: all that is said of a function arrives") {
  const Job job = read_chat("{" + std::string(kTools) + "}");
  const auto& tools = conversation_of(job).tools;
  REQUIRE(tools.size() == 2);
  CHECK(tools[0].name == "look");
  CHECK(tools[0].description == "Looks.");
  CHECK(tools[0].strict);
  CHECK(
      tools[0].parameters ==
      R"({"type":"object","properties":{"z":{},"a":{}}})");
  CHECK(tools[1].name == "wait");
  CHECK(tools[1].parameters == "");
  CHECK(!tools[1].strict);
  CHECK(job.tool_choice.kind == ToolChoice::Kind::automatic);
  CHECK(job.tool_choice.parallel);
}

TEST_CASE("openai tools: what is malformed is named") {
  CHECK(wrong_in_chat(R"({"tools": {}})") == "tools");
  CHECK(wrong_tool("1") == "tools[0]");
  CHECK(wrong_tool("{}") == "tools[0].function");
  CHECK(
      wrong_tool(R"({"type": "custom", "custom": {"name": "x"}})") ==
      "tools[0].type");
  CHECK(wrong_tool(R"({"type": "web_search_preview"})") == "tools[0].type");
  const auto wrong = [](const std::string& function) {
    return wrong_tool(R"({"type": "function", "function": )" + function + "}");
  };
  CHECK(wrong("{}") == "tools[0].function.name");
  CHECK(wrong(R"({"name": ""})") == "tools[0].function.name");
  CHECK(wrong(R"({"name": "a b"})") == "tools[0].function.name");
  CHECK(wrong(R"({"name": "a\"b"})") == "tools[0].function.name");
  CHECK(wrong(R"({"name": "a-Z_9"})") == "");
  CHECK(wrong("{\"name\": \"" + std::string(128, 'a') + "\"}") == "");
  CHECK(
      wrong("{\"name\": \"" + std::string(129, 'a') + "\"}") ==
      "tools[0].function.name");
  CHECK(
      wrong(R"({"name": "f", "parameters": []})") ==
      "tools[0].function.parameters");
  CHECK(
      wrong(R"({"name": "f", "parameters": {"x-guidance": {}}})") ==
      "tools[0].function.parameters.x-guidance");
  CHECK(
      wrong(R"({"name": "f", "strict": "yes"})") == "tools[0].function.strict");
  CHECK(
      wrong(R"({"name": "f", "description": 1})") ==
      "tools[0].function.description");
  CHECK(wrong(R"({"name": "f", "more": 1})") == "tools[0].function.more");
  CHECK(wrong_tool(R"({"function": {"name": "f"}}, {"function": {"name":
          "f"}})") == "tools[1]");
}

TEST_CASE("openai tools: they are bounded") {
  ServerLimits limits;
  limits.tools = 1;
  CHECK(wrong_in_chat("{" + std::string(kTools) + "}", limits) == "tools");
  limits = {};
  limits.schema_bytes = 10;
  const std::string tool = R"({"tools": [{"function": {"name": "f",
      "parameters": {"a": )";
  CHECK(wrong_in_chat(tool + "1234}}}]}", limits) == "");
  CHECK(
      wrong_in_chat(tool + "12345}}}]}", limits) ==
      "tools[0].function.parameters");
}

TEST_CASE("openai tools: each tool_choice") {
  using Kind = ToolChoice::Kind;
  CHECK(choice_of("null").kind == Kind::automatic);
  CHECK(choice_of("\"auto\"").kind == Kind::automatic);
  CHECK(choice_of("\"none\"").kind == Kind::none);
  CHECK(choice_of("\"required\"").kind == Kind::required);
  const ToolChoice named =
      choice_of(R"({"type": "function", "function": {"name": "wait"}})");
  CHECK(named.kind == Kind::named);
  CHECK(named.name == "wait");
  CHECK(!read_chat(with_tools("\"parallel_tool_calls\": false"))
             .tool_choice.parallel);
}

TEST_CASE("openai tools: the model knows only those that are allowed") {
  const Job job = read_chat(with_tools(R"("tool_choice": {
      "type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "wait"}}]}})"));
  REQUIRE(conversation_of(job).tools.size() == 1);
  CHECK(conversation_of(job).tools[0].name == "wait");
  CHECK(job.tool_choice.kind == ToolChoice::Kind::required);

  const Job none = read_chat(with_tools(R"("tool_choice": {
      "type": "allowed_tools", "allowed_tools": {"mode": "auto",
      "tools": []}})"));
  CHECK(conversation_of(none).tools.empty());
  CHECK(none.tool_choice.kind == ToolChoice::Kind::automatic);
}

TEST_CASE("openai tools: choices that cannot be") {
  CHECK(wrong_choice("\"always\"") == "tool_choice");
  CHECK(wrong_choice("1") == "tool_choice");
  CHECK(wrong_choice("{}") == "tool_choice.function");
  CHECK(
      wrong_choice(R"({"type": "custom", "custom": {"name": "x"}})") ==
      "tool_choice.type");
  CHECK(
      wrong_choice(R"({"function": {"name": "fly"}})") ==
      "tool_choice.function.name");
  CHECK(
      wrong_choice(R"({"function": {"name": "look"}, "more": 1})") ==
      "tool_choice.more");
  CHECK(
      wrong_choice(R"({"type": "allowed_tools"})") ==
      "tool_choice.allowed_tools");
  CHECK(
      wrong_choice(R"({"type": "allowed_tools", "allowed_tools":
          {"mode": "maybe", "tools": []}})") ==
      "tool_choice.allowed_tools.mode");
  CHECK(
      wrong_choice(R"({"type": "allowed_tools", "allowed_tools":
          {"mode": "auto", "tools": [{"function": {"name": "fly"}}]}})") ==
      "tool_choice.allowed_tools.tools[0].function.name");
  CHECK(wrong_choice(R"({"type": "allowed_tools", "allowed_tools":
          {"mode": "required", "tools": []}})") == "tool_choice");
  CHECK(wrong_in_chat(R"({"tool_choice": "required"})") == "tool_choice");
  CHECK(wrong_in_chat(R"({"tool_choice": "none"})") == "");
  CHECK(
      wrong_in_chat(R"({"tool_choice": {"function": {"name": "f"}}})") ==
      "tool_choice.function.name");
  CHECK(
      wrong_in_chat(R"({"parallel_tool_calls": 1})") == "parallel_tool_calls");
}

TEST_CASE("openai tools: the older form is refused with the newer one's name") {
  for (const char* body :
       {R"({"functions": [{"name": "f"}]})",
        R"({"function_call": {"name": "f"}})"}) {
    ChatWishes wishes;
    try {
      read_chat_request(chat_body(body), {}, wishes);
      FAIL("accepted");
    } catch (const ApiError& error) {
      CHECK(std::string(error.what()).find("tool") != std::string::npos);
    }
  }
  CHECK(wrong_in_chat(R"({"functions": [], "function_call": "auto"})") == "");
}
