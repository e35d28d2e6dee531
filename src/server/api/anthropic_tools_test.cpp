#include "server/api/anthropic_tools.h"

#include <doctest/doctest.h>

#include "server/api/test_anthropic.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::anthropic_test;

namespace {

// Of a tool with these fields, and of two of one name.
std::string tool_refusal(const std::string& tool) {
  return refusal("{\"tools\": [" + tool + "]}");
}

bool refuses_tool(const std::string& tool, const std::string& field) {
  return tool_refusal(tool).rfind("[tools[0]." + field + "] ", 0) == 0;
}

const char* kTwoTools = R"("tools": [
    {"name": "a", "input_schema": {"type": "object"}},
    {"name": "b", "input_schema": {"type": "object"}}])";

std::string with_choice(const std::string& choice) {
  return "{" + std::string(kTwoTools) + ", \"tool_choice\": " + choice + "}";
}

ToolChoice choice_of(const std::string& choice) {
  return read_body(with_choice(choice)).job.tool_choice;
}

} // namespace

TEST_CASE("anthropic tools: a tool keeps its schema as it was written") {
  const AnthropicRequest request = read_body(R"({"tools": [{
      "type": "custom", "name": "get_weather", "description": "Weather.",
      "input_schema": {"type": "object", "properties": {"z": {}, "a": {}}},
      "strict": true}]})");
  const std::vector<Tool>& tools = conversation_of(request).tools;
  REQUIRE(tools.size() == 1);
  CHECK(tools[0].name == "get_weather");
  CHECK(tools[0].description == "Weather.");
  CHECK(
      tools[0].parameters ==
      R"({"type":"object","properties":{"z":{},"a":{}}})");
  CHECK(tools[0].strict);
}

TEST_CASE("anthropic tools: examples of input are in the description") {
  const AnthropicRequest request = read_body(R"({"tools": [{
      "name": "a", "description": "Does a.", "input_schema": {},
      "input_examples": [{"x": 1}, {"x": 2}]}]})");
  CHECK(
      conversation_of(request).tools[0].description ==
      "Does a.\nExamples of its input:\n{\"x\":1}\n{\"x\":2}");
}

TEST_CASE("anthropic tools: a schema does not set the compiler's options") {
  CHECK(refuses_tool(
      R"({"name": "a", "input_schema": {"x-guidance": {}}})",
      "input_schema.x-guidance"));
}

TEST_CASE("anthropic tools: those of Anthropic's own service are refused") {
  for (const char* type :
       {"web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "bash_20250124",
        "text_editor_20250728",
        "computer_20250124",
        "memory_20250818"}) {
    CAPTURE(type);
    const std::string tool =
        std::string(R"({"name": "x", "type": ")") + type + "\"}";
    CHECK(refuses_tool(tool, "type"));
    CHECK(tool_refusal(tool).find(type) != std::string::npos);
  }
}

TEST_CASE("anthropic tools: names and schemas are checked") {
  CHECK(refuses_tool(R"({"input_schema": {}})", "name"));
  CHECK(refuses_tool(R"({"name": "", "input_schema": {}})", "name"));
  CHECK(refuses_tool(R"({"name": "a b", "input_schema": {}})", "name"));
  const std::string longest(128, 'x');
  CHECK(tool_refusal(R"({"input_schema": {}, "name": ")" + longest + "\"}")
            .empty());
  CHECK(refuses_tool(
      R"({"input_schema": {}, "name": ")" + longest + "x\"}", "name"));
  CHECK(refuses_tool(R"({"name": "a"})", "input_schema"));
  CHECK(refuses_tool(R"({"name": "a", "input_schema": "{}"})", "input_schema"));
  CHECK(refuses_tool(
      R"({"name": "a", "input_schema": {"type": "array"}})", "input_schema"));
  CHECK(refuses_tool(
      R"({"name": "a", "input_schema": {}, "strict": 1})", "strict"));
  CHECK(refuses_tool(
      R"({"name": "a", "input_schema": {}, "parameters": {}})", "parameters"));
  CHECK(refuses_tool(
      R"({"name": "a", "input_schema": {},
          "allowed_callers": ["code_execution_20250825"]})",
      "allowed_callers"));
  CHECK(
      tool_refusal(
          R"({"name": "a", "input_schema": {}, "allowed_callers": ["direct"]})")
          .empty());
}

TEST_CASE("anthropic tools: names differ, and number and size are bounded") {
  CHECK(refuses(
      R"({"tools": [{"name": "a", "input_schema": {}},
                    {"name": "a", "input_schema": {}}]})",
      "tools[1].name"));
  ServerLimits limits;
  limits.tools = 1;
  const std::string two = "{" + std::string(kTwoTools) + "}";
  CHECK(refusal(two, AnthropicPurpose::message, limits) != "");
  limits.tools = 2;
  CHECK(refusal(two, AnthropicPurpose::message, limits).empty());
  limits.schema_bytes = 16; // {"type":"object"} is 17
  CHECK(refusal(two, AnthropicPurpose::message, limits) != "");
}

TEST_CASE("anthropic tools: which may be called") {
  CHECK(choice_of("null").kind == ToolChoice::Kind::automatic);
  CHECK(choice_of("null").parallel);
  CHECK(choice_of(R"({"type": "auto"})").kind == ToolChoice::Kind::automatic);
  CHECK(choice_of(R"({"type": "any"})").kind == ToolChoice::Kind::required);
  CHECK(choice_of(R"({"type": "none"})").kind == ToolChoice::Kind::none);
  const ToolChoice named = choice_of(R"({"type": "tool", "name": "b"})");
  CHECK(named.kind == ToolChoice::Kind::named);
  CHECK(named.name == "b");
  CHECK(named.parallel);
  const char* one = R"({"type": "any", "disable_parallel_tool_use": true})";
  CHECK(!choice_of(one).parallel);
}

TEST_CASE("anthropic tools: a choice that cannot be made is refused") {
  CHECK(refuses(with_choice("{}"), "tool_choice.type"));
  CHECK(refuses(with_choice(R"({"type": "required"})"), "tool_choice.type"));
  CHECK(refuses(with_choice(R"({"type": "tool"})"), "tool_choice.name"));
  CHECK(refuses(
      with_choice(R"({"type": "tool", "name": "c"})"), "tool_choice.name"));
  CHECK(refuses(
      with_choice(R"({"type": "auto", "name": "a"})"), "tool_choice.name"));
  CHECK(refuses(R"({"tool_choice": {"type": "any"}})", "tool_choice.type"));
}
