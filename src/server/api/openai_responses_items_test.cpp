#include "server/api/openai_responses_items.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

Json read(const std::string& item) {
  JsonTexts texts({});
  return read_response_item(Json::parse(item), "input[0]", texts);
}

// What is wrong, as "field: message".
std::string refusal(const std::string& item) {
  try {
    read(item);
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    return error.param + ": " + error.what();
  }
  return "";
}

bool starts_with(const std::string& text, const std::string& begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

} // namespace

TEST_CASE("response items: a message is complete after reading") {
  const Json item = read(R"({"role": "user", "content": "Hi"})");
  CHECK(item["type"] == "message");
  CHECK(item["status"] == "completed");
  CHECK(starts_with(item["id"], "msg_"));
  CHECK(
      item["content"] == Json::parse(R"([{"type":"input_text","text":"Hi"}])"));

  const Json own = read(
      R"({"type": "message", "id": "msg_7", "role": "assistant",
          "status": "incomplete", "phase": "commentary",
          "content": [{"type": "output_text", "text": "A", "annotations": [],
                       "logprobs": []}]})");
  CHECK(own["id"] == "msg_7");
  CHECK(own["status"] == "incomplete");
  CHECK(own["phase"] == "commentary");
  CHECK(
      own["content"] ==
      Json::parse(
          R"([{"type":"output_text","text":"A","annotations":[],"logprobs":[]}])"));
}

TEST_CASE("response items: what models cannot read is refused by its name") {
  const auto of_part = [](const std::string& part) {
    return refusal(R"({"role": "user", "content": [)" + part + "]}");
  };
  CHECK(
      of_part(R"({"type": "input_image", "image_url": "data:"})") ==
      "input[0].content[0].type: input[0].content[0].type 'input_image' is not "
      "supported: models read text alone");
  CHECK(
      of_part(R"({"type": "input_file", "file_id": "f"})").find("input_file") !=
      std::string::npos);
  CHECK(
      of_part(R"({"type": "text", "text": "t"})").find("'text' is not known") !=
      std::string::npos);
  CHECK(starts_with(
      of_part(R"({"type": "input_text"})"), "input[0].content[0].text:"));
  CHECK(starts_with(
      of_part(R"({"type": "input_text", "text": "t", "x": 1})"),
      "input[0].content[0].x:"));
}

TEST_CASE("response items: what is missing or unknown in an item is named") {
  CHECK(starts_with(refusal(R"({"content": "Hi"})"), "input[0].role:"));
  CHECK(starts_with(refusal(R"({"role": "user"})"), "input[0].content:"));
  CHECK(starts_with(
      refusal(R"({"role": "user", "content": 3})"), "input[0].content:"));
  CHECK(starts_with(
      refusal(R"({"role": "tool", "content": "x"})"), "input[0].role:"));
  CHECK(starts_with(
      refusal(R"({"role": "user", "content": "x", "name": "n"})"),
      "input[0].name:"));
  CHECK(starts_with(refusal("3"), "input[0]:"));
  for (const char* type :
       {"web_search_call",
        "custom_tool_call",
        "local_shell_call",
        "mcp_call"}) {
    const std::string what =
        refusal(R"({"type": ")" + std::string(type) + R"(", "id": "x"})");
    CHECK(starts_with(what, "input[0].type:"));
    CHECK(what.find(type) != std::string::npos);
  }
}

TEST_CASE("response items: arguments of a call are a JSON object") {
  const auto call = [](const std::string& arguments) {
    return R"({"type": "function_call", "call_id": "c", "name": "f",
               "arguments": )" +
        arguments + "}";
  };
  CHECK(read(call(R"("{\"a\": 1}")"))["arguments"] == "{\"a\": 1}");
  CHECK(read(call(R"("")"))["arguments"] == "{}");
  for (const char* bad : {R"("[1]")", R"("{")", R"("x")", "{}"}) {
    CHECK(starts_with(refusal(call(bad)), "input[0].arguments:"));
  }
  // An object that is nested deeper than bodies may be.
  std::string deep;
  for (int i = 0; i < 100; ++i) {
    deep += R"({\"a\":)";
  }
  deep += "1" + std::string(100, '}');
  CHECK(starts_with(refusal(call("\"" + deep + "\"")), "input[0].arguments:"));
}

TEST_CASE("response items: what Codex adds of its own is harmless") {
  CHECK(refusal(R"({"role": "user", "content": "Hi",
      "internal_chat_message_metadata_passthrough": {"turn_id": "1"}})")
            .empty());
}

TEST_CASE("response items: programs that call tools are refused") {
  const std::string begin =
      R"({"type": "function_call", "call_id": "c", "name": "f",
          "arguments": "", "caller": )";
  CHECK(refusal(begin + R"({"type": "direct"}})").empty());
  CHECK(starts_with(
      refusal(begin + R"({"type": "program", "id": "p"}})"),
      "input[0].caller:"));
}

TEST_CASE("response items: reasoning comes back with its text or its seal") {
  const Json text = read(
      R"({"type": "reasoning", "id": "rs_1", "summary": [],
          "content": [{"type": "reasoning_text", "text": "Hm."}]})");
  CHECK(text["content"][0]["text"] == "Hm.");
  CHECK(text["encrypted_content"] == sealed_reasoning("Hm."));

  const Json sealed = read(Json{
      {"type", "reasoning"},
      {"summary", Json::array()},
      {"encrypted_content", sealed_reasoning("Hm.")}}
                               .dump());
  CHECK(sealed["content"] == text["content"]);

  // The text goes before the seal.
  const Json both = read(Json{
      {"type", "reasoning"},
      {"summary", Json::array()},
      {"content", text["content"]},
      {"encrypted_content", "gAAAAB"}}
                             .dump());
  CHECK(both["content"] == text["content"]);

  CHECK(starts_with(
      refusal(R"({"type": "reasoning", "summary": [],
                  "encrypted_content": "gAAAAB"})"),
      "input[0].encrypted_content:"));

  const Json summary = read(
      R"({"type": "reasoning", "encrypted_content": null,
          "summary": [{"type": "summary_text", "text": "short"}]})");
  CHECK(summary["summary"][0]["text"] == "short");
  CHECK(summary["content"].empty());
  CHECK_FALSE(summary.contains("encrypted_content"));
}

TEST_CASE("response items: references are told from messages without a type") {
  const auto of = [](const std::string& item) {
    return referenced_item(Json::parse(item), "input[0]");
  };
  CHECK(of(R"({"type": "item_reference", "id": "msg_1"})") == "msg_1");
  CHECK(of(R"({"id": "msg_1"})") == "msg_1");
  CHECK_FALSE(of(R"({"role": "user", "content": "Hi", "id": "msg_1"})"));
  CHECK_FALSE(of(R"({"type": "reasoning", "id": "rs_1"})"));
  CHECK_THROWS_AS(of(R"({"type": "item_reference"})"), ApiError);
}

TEST_CASE("response items: ids are new each time") {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const std::string id = new_response_id("resp_");
    CHECK(id.size() == 37);
    CHECK(ids.insert(id).second);
  }
}
