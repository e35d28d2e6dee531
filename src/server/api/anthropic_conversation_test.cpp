#include "server/api/anthropic_conversation.h"

#include <doctest/doctest.h>

#include "server/api/test_anthropic.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::anthropic_test;

namespace {

using Messages = std::vector<ChatMessage>;

Messages messages_of(const std::string& fields) {
  return conversation_of(read_body(fields, AnthropicPurpose::count_tokens))
      .messages;
}

// Of "messages" with these in it.
Messages read_messages(const std::string& messages) {
  return messages_of("{\"messages\": [" + messages + "]}");
}

bool refuses_messages(const std::string& messages, const std::string& field) {
  return refuses("{\"messages\": [" + messages + "]}", field);
}

std::string user(const std::string& content) {
  return "{\"role\": \"user\", \"content\": " + content + "}";
}

std::string assistant(const std::string& content) {
  return "{\"role\": \"assistant\", \"content\": " + content + "}";
}

const std::string kCall = assistant(
    R"([{"type": "tool_use", "id": "toolu_1", "name": "ls",
         "input": {"b": 1, "a": [2]}}])");

std::string result(const std::string& fields) {
  return user(
      "[{\"type\": \"tool_result\", \"tool_use_id\": \"toolu_1\"" + fields +
      "}]");
}

std::string result_text(const std::string& fields) {
  return read_messages(user("\"x\"") + "," + kCall + "," + result(fields))
      .at(2)
      .content;
}

} // namespace

TEST_CASE("anthropic conversation: a string is a block of text") {
  const Messages string = messages_of(R"({"system": "Be kind."})");
  const Messages blocks = messages_of(R"({
      "system": [{"type": "text", "text": "Be kind.",
                  "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
      "messages": [{"role": "user", "content": [
          {"type": "text", "text": "Hi", "citations": null}]}]})");
  for (const Messages& messages : {string, blocks}) {
    REQUIRE(messages.size() == 2);
    CHECK(messages[0].role == "system");
    CHECK(messages[0].content == "Be kind.");
    CHECK(messages[1].role == "user");
    CHECK(messages[1].content == "Hi");
  }
}

TEST_CASE("anthropic conversation: an empty system is none") {
  CHECK(messages_of(R"({"system": ""})").size() == 1);
  CHECK(messages_of(R"({"system": []})").size() == 1);
}

TEST_CASE("anthropic conversation: blocks of text are paragraphs") {
  const Messages messages = messages_of(R"({
      "system": [{"type": "text", "text": "a"}, {"type": "text", "text": ""},
                 {"type": "text", "text": "b"}],
      "messages": [{"role": "user", "content": [
          {"type": "text", "text": "c"}, {"type": "text", "text": "d"}]}]})");
  CHECK(messages[0].content == "a\n\nb");
  CHECK(messages[1].content == "c\n\nd");
}

TEST_CASE("anthropic conversation: turns of one role are one") {
  const Messages messages = read_messages(
      user("\"a\"") + "," + user("\"b\"") + "," + assistant("\"c\"") + "," +
      assistant("\" d\"") + "," + user("\"e\""));
  REQUIRE(messages.size() == 3);
  CHECK(messages[0].content == "a\n\nb");
  CHECK(messages[1].content == "c d");
  CHECK(messages[2].content == "e");
}

TEST_CASE("anthropic conversation: an answer comes back as it was made") {
  const Messages messages = read_messages(
      user("\"x\"") + "," + assistant(R"([
          {"type": "thinking", "thinking": "Hm.", "signature": "any"},
          {"type": "text", "text": "I look: "},
          {"type": "tool_use", "id": "toolu_A1", "name": "ls",
           "input": {"path": "/", "all": true}, "caller": {"type": "direct"}},
          {"type": "tool_use", "id": "toolu_B2", "name": "pwd", "input": {}},
          {"type": "text", "text": "there."}])") +
      "," + user(R"([
          {"type": "tool_result", "tool_use_id": "toolu_B2", "content": "/"},
          {"type": "tool_result", "tool_use_id": "toolu_A1", "content": "a"},
          {"type": "text", "text": "And?"}])"));
  REQUIRE(messages.size() == 5);
  const ChatMessage& answer = messages[1];
  CHECK(answer.role == "assistant");
  CHECK(answer.reasoning == "Hm.");
  CHECK(answer.content == "I look: there.");
  REQUIRE(answer.tool_calls.size() == 2);
  CHECK(answer.tool_calls[0].id == "call_A1");
  CHECK(answer.tool_calls[0].name == "ls");
  CHECK(answer.tool_calls[0].arguments == R"({"path":"/","all":true})");
  CHECK(answer.tool_calls[1].arguments == "{}");
  CHECK(messages[2].role == "tool");
  CHECK(messages[2].tool_call_id == "call_B2");
  CHECK(messages[2].name == "pwd");
  CHECK(messages[2].content == "/");
  CHECK(messages[3].tool_call_id == "call_A1");
  CHECK(messages[4].role == "user");
  CHECK(messages[4].content == "And?");
}

TEST_CASE("anthropic conversation: results are text, and tell of errors") {
  CHECK(result_text("") == "");
  CHECK(result_text(R"(, "content": "a")") == "a");
  CHECK(
      result_text(R"(, "content": [{"type": "text", "text": "a"},
                                   {"type": "text", "text": "b"}])") ==
      "a\n\nb");
  CHECK(result_text(R"(, "content": "a", "is_error": false)") == "a");
  CHECK(result_text(R"(, "content": "a", "is_error": true)") == "Error: a");
  CHECK(result_text(R"(, "is_error": true)") == "Error");
  CHECK(
      result_text(
          R"(, "content": [{"type": "tool_reference", "tool_name": "b"}])") ==
      "The tool b can be used now.");
}

TEST_CASE("anthropic conversation: a result needs its call before it") {
  CHECK(refuses_messages(result(""), "messages[0].content[0].tool_use_id"));
  CHECK(refuses_messages(
      result("") + "," + kCall, "messages[0].content[0].tool_use_id"));
}

TEST_CASE("anthropic conversation: thinking that was hidden comes back") {
  const std::string hidden = anthropic_signature("Secretly.");
  const Messages messages = read_messages(
      user("\"x\"") + "," +
      assistant(
          R"([{"type": "thinking", "thinking": "", "signature": ")" + hidden +
          R"("}, {"type": "redacted_thinking", "data": "abc"},
             {"type": "text", "text": "y"}])"));
  REQUIRE(messages.size() == 2);
  CHECK(messages[1].reasoning == "Secretly.");
  CHECK(messages[1].content == "y");
}

TEST_CASE("anthropic conversation: signatures of others carry nothing") {
  CHECK(hidden_thinking(anthropic_signature("a:b")) == "a:b");
  CHECK(hidden_thinking(anthropic_signature("")) == "");
  CHECK(anthropic_signature("") != "");
  CHECK(hidden_thinking("ErUB3f==") == "");
  CHECK(hidden_thinking("") == "");
}

TEST_CASE("anthropic conversation: ids of calls are translated and back") {
  CHECK(to_anthropic_call_id("call_aB3") == "toolu_aB3");
  CHECK(from_anthropic_call_id("toolu_aB3") == "call_aB3");
  CHECK(from_anthropic_call_id("functions.ls:0") == "functions.ls:0");
  CHECK(to_anthropic_call_id("aB3") == "toolu_aB3");
}

TEST_CASE("anthropic conversation: Claude Code's billing line is left out") {
  const char* line = "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c;";
  const auto system = [&](const std::string& value) {
    TestJson fields;
    fields["system"] = value;
    const Messages messages = messages_of(fields.dump());
    return messages[0].role == "system" ? messages[0].content : "";
  };
  CHECK(system(line) == "");
  CHECK(system(std::string(line) + "\nBe kind.") == "Be kind.");
  CHECK(system(std::string("Be kind.\n") + line) != "Be kind.");
}

TEST_CASE("anthropic conversation: a later word of the system stays there") {
  const char* system = R"({"role": "system", "content": "s"})";
  const Messages before =
      read_messages(std::string(system) + "," + user("\"x\""));
  REQUIRE(before.size() == 2);
  CHECK(before[0].role == "system");
  CHECK(before[0].content == "s");

  const Messages between = read_messages(
      user("\"x\"") + "," + assistant("\"y\"") + "," + system + "," +
      user("\"z\""));
  REQUIRE(between.size() == 3);
  CHECK(between[2].role == "user");
  CHECK(between[2].content == "<system-reminder>\ns\n</system-reminder>\n\nz");
}

TEST_CASE("anthropic conversation: a system's word may be for one turn") {
  const std::string once =
      R"({"role": "system", "content": "s", "clear_at": "next_user_message"})";
  const Messages now = read_messages(user("\"x\"") + "," + once);
  CHECK(now[0].content == "x\n\n<system-reminder>\ns\n</system-reminder>");
  const Messages later = read_messages(
      user("\"x\"") + "," + once + "," + assistant("\"y\"") + "," +
      user("\"z\""));
  CHECK(later[0].content == "x");
}

TEST_CASE("anthropic conversation: a reminder belongs to a tool's result") {
  const std::string reminder =
      R"({"type": "text", "text": "<system-reminder>r</system-reminder>"})";
  const Messages messages = read_messages(
      user("\"x\"") + "," + kCall + "," +
      user(
          R"([{"type": "tool_result", "tool_use_id": "toolu_1",
               "content": "a"}, )" +
          reminder + "]"));
  REQUIRE(messages.size() == 3);
  CHECK(messages[2].role == "tool");
  CHECK(messages[2].content == "a\n\n<system-reminder>r</system-reminder>");
  CHECK(read_messages(user("[" + reminder + "]")).at(0).role == "user");
}

TEST_CASE("anthropic conversation: what is not text is refused by its name") {
  const auto said = [](const std::string& block) {
    return refusal("{\"messages\": [" + user("[" + block + "]") + "]}");
  };
  for (const char* type :
       {"image",
        "document",
        "search_result",
        "server_tool_use",
        "web_search_tool_result",
        "container_upload",
        "thinking",
        "tool_use",
        "nonsense"}) {
    CAPTURE(type);
    const std::string block = std::string("{\"type\": \"") + type + "\"}";
    CHECK(said(block).rfind("[messages[0].content[0].type] ", 0) == 0);
    CHECK(said(block).find(type) != std::string::npos);
  }
  CHECK(refuses_messages(
      user("\"x\"") + "," + kCall + "," +
          result(R"(, "content": [{"type": "image"}])"),
      "messages[2].content[0].content[0].type"));
  CHECK(refuses_messages(
      user("\"x\"") + "," + assistant(R"([{"type": "tool_result"}])"),
      "messages[1].content[0].type"));
  CHECK(refuses(R"({"system": [{"type": "image"}]})", "system[0].type"));
}

TEST_CASE("anthropic conversation: what is wrong is named by its place") {
  CHECK(refuses_messages(R"("x")", "messages[0]"));
  CHECK(refuses_messages(R"({"content": "x"})", "messages[0].role"));
  CHECK(refuses_messages(
      R"({"role": "tool", "content": "x"})", "messages[0].role"));
  CHECK(refuses_messages(R"({"role": "user"})", "messages[0].content"));
  CHECK(refuses_messages(user("7"), "messages[0].content"));
  CHECK(refuses_messages(user("[7]"), "messages[0].content[0]"));
  CHECK(refuses_messages(user("[{}]"), "messages[0].content[0].type"));
  CHECK(refuses_messages(
      user(R"([{"type": "text"}])"), "messages[0].content[0].text"));
  CHECK(refuses_messages(
      user(R"([{"type": "text", "text": "x", "y": 1}])"),
      "messages[0].content[0].y"));
  CHECK(refuses_messages(
      R"({"role": "user", "content": "x", "name": "me"})", "messages[0].name"));
  CHECK(refuses_messages(
      user("\"x\"") + "," +
          assistant(
              R"([{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}])"),
      "messages[1].content[0].input"));
  CHECK(refuses_messages(R"({"role": "system", "content": "x"})", "messages"));
}

TEST_CASE("anthropic conversation: the number of messages is bounded") {
  ServerLimits limits;
  limits.messages = 2;
  const auto said = [&](const std::string& messages) {
    return refusal(
        "{\"messages\": [" + messages + "]}",
        AnthropicPurpose::message,
        limits);
  };
  const std::string two = user("\"x\"") + "," + user("\"x\"");
  CHECK(said(two).empty());
  CHECK(said(two + "," + two).rfind("[messages] ", 0) == 0);
}
