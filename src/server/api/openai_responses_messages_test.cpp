#include "server/api/openai_responses_messages.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/openai_responses_items.h"
#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

Json read(const std::string& item) {
  JsonTexts texts({});
  return read_response_item(Json::parse(item), "input[0]", texts);
}

std::vector<ChatMessage> messages_of(const std::string& items) {
  ResponseMessages messages;
  JsonTexts texts({});
  for (const Json& item : Json::parse(items)) {
    messages.add(read_response_item(item, "input[0]", texts), "input[0]");
  }
  return messages.take();
}

// Such as "user:Hi assistant(think):text[f{}] tool(f):4".
std::string words(const std::vector<ChatMessage>& messages) {
  std::string text;
  for (const ChatMessage& each : messages) {
    text += (text.empty() ? "" : " ") + each.role;
    if (!each.reasoning.empty() || !each.name.empty()) {
      text += "(" + each.reasoning + each.name + ")";
    }
    text += ":" + each.content;
    for (const ToolCall& call : each.tool_calls) {
      text += "[" + call.name + call.arguments + "]";
    }
  }
  return text;
}

} // namespace

TEST_CASE("response messages: an answer's items are one message") {
  CHECK(
      words(messages_of(R"([
        {"role": "user", "content": "2+2?"},
        {"type": "reasoning", "summary": [],
         "content": [{"type": "reasoning_text", "text": "add"}]},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "sum",
         "arguments": "{\"a\":2}"},
        {"type": "function_call", "call_id": "c2", "name": "log",
         "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"type": "function_call_output", "call_id": "c2",
         "output": [{"type": "input_text", "text": "done"},
                    {"type": "input_text", "text": "well"}]},
        {"role": "assistant", "content": "4."}])")) ==
      "user:2+2? assistant(add):Let me see.[sum{\"a\":2}][log{}] tool(sum):4 "
      "tool(log):done\nwell assistant:4.");
}

TEST_CASE("response messages: what is said anew is a message of its own") {
  CHECK(
      words(messages_of(R"([
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"type": "reasoning", "summary": [],
         "content": [{"type": "text", "text": "r"}]},
        {"role": "assistant", "content": "C"}])")) ==
      "assistant:A assistant:B assistant(r):C");
}

TEST_CASE("response messages: what follows a call belongs to the same answer") {
  CHECK(
      words(messages_of(R"([
        {"role": "assistant", "content": "A"},
        {"type": "function_call", "call_id": "c", "name": "f",
         "arguments": "{}"},
        {"role": "assistant", "content": "B"},
        {"type": "function_call_output", "call_id": "c", "output": ""}])")) ==
      "assistant:AB[f{}] tool(f):");
}

TEST_CASE("response messages: a conversation begins with one system message") {
  ResponseMessages messages;
  messages.add_instructions("Be brief.");
  const auto add = [&](const std::string& item) {
    messages.add(read(item), "input[0]");
  };
  add(R"({"role": "developer", "content": "Use tools."})");
  add(R"({"role": "system", "content": "Be kind."})");
  add(R"({"role": "user", "content": "Hi"})");
  add(R"({"role": "developer", "content": "New rules."})");
  CHECK(
      words(messages.take()) ==
      "system:Be brief.\n\nUse tools.\n\nBe kind. user:Hi system:New rules.");
}

TEST_CASE(
    "response messages: a result needs the call that it is the result of") {
  try {
    messages_of(R"([{"type": "function_call_output", "call_id": "c9",
                     "output": "4"}])");
    FAIL("was accepted");
  } catch (const ApiError& error) {
    CHECK(error.param == "input[0].call_id");
    CHECK(std::string(error.what()).find("c9") != std::string::npos);
  }
}

TEST_CASE(
    "response messages: functions of namespaces are known by both names") {
  CHECK(name_in_namespace("crm", "find") == "crm__find");
  CHECK(name_in_namespace("mcp__crm__", "find") == "mcp__crm__find");
  CHECK(name_in_namespace("", "find") == "find");
  CHECK(
      words(messages_of(R"([
        {"type": "function_call", "call_id": "c", "name": "find",
         "namespace": "crm", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"}])")) ==
      "assistant:[crm__find{}] tool(crm__find):x");
}
