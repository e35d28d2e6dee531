#include "server/api/anthropic_message.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "server/api/anthropic_conversation.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Json = nlohmann::ordered_json;

CollectedAnswer collected() {
  CollectedAnswer answer;
  answer.start.model = "demo";
  answer.choices.resize(1);
  answer.usage = {11, 4, 7, 2};
  return answer;
}

} // namespace

TEST_CASE("anthropic message: blocks come in the order of an answer") {
  CollectedAnswer answer = collected();
  CollectedChoice& choice = answer.choices[0];
  choice.reasoning = "Hm.";
  choice.content = "I look. Done.";
  choice.tool_calls = {
      {"call_A1", "ls", R"({"z":1,"a":[2]})"}, {"call_B2", "pwd", ""}};
  choice.call_places = {7, 7};
  choice.end.reason = ChoiceEnd::Reason::tool_calls;
  const Json message = anthropic_message({"msg_1", "asked"}, answer);
  Json expected = Json::parse(R"({
      "id": "msg_1", "type": "message", "role": "assistant", "model": "demo",
      "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_A1", "name": "ls",
         "input": {"z": 1, "a": [2]}},
        {"type": "tool_use", "id": "toolu_B2", "name": "pwd", "input": {}},
        {"type": "text", "text": " Done."}],
      "stop_reason": "tool_use", "stop_sequence": null,
      "usage": {"input_tokens": 7, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4, "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 2}}})");
  CHECK(message["content"][0]["signature"] != "");
  expected["content"][0]["signature"] = message["content"][0]["signature"];
  CHECK(message == expected);
}

TEST_CASE("anthropic message: an answer without a word has no block") {
  CHECK(anthropic_message({"msg_1", "asked"}, collected())["content"].empty());
}

TEST_CASE("anthropic message: hidden thinking is in its signature alone") {
  CollectedAnswer answer = collected();
  answer.choices[0].reasoning = "Secret";
  const Json message = anthropic_message({"msg_1", "asked", false}, answer);
  const Json& block = message["content"][0];
  CHECK(block["thinking"] == "");
  CHECK(hidden_thinking(block["signature"].get<std::string>()) == "Secret");
}

TEST_CASE("anthropic message: the reason of the end has Anthropic's words") {
  ChoiceEnd end;
  end.reason = ChoiceEnd::Reason::stop;
  CHECK(anthropic_stop_reason(end) == std::string("end_turn"));
  CHECK(anthropic_stop_sequence(end).is_null());
  end.reason = ChoiceEnd::Reason::length;
  CHECK(anthropic_stop_reason(end) == std::string("max_tokens"));
  end.reason = ChoiceEnd::Reason::tool_calls;
  CHECK(anthropic_stop_reason(end) == std::string("tool_use"));
  end.reason = ChoiceEnd::Reason::stop;
  end.stop_string = "X";
  CHECK(anthropic_stop_reason(end) == std::string("stop_sequence"));
  CHECK(anthropic_stop_sequence(end) == "X");
}

TEST_CASE("anthropic message: arguments that are no object are our mistake") {
  for (const std::string& arguments :
       {std::string("[1]"), std::string("{\"a\":"), std::string(100000, '[')}) {
    CollectedAnswer answer = collected();
    answer.choices[0].tool_calls = {{"call_A1", "ls", arguments}};
    answer.choices[0].call_places = {0};
    try {
      anthropic_message({"msg_1", "asked"}, answer);
      FAIL("accepted");
    } catch (const ApiError& error) {
      CHECK(error.kind() == ApiErrorKind::internal);
    }
  }
}

TEST_CASE("anthropic message: edits of the context are told of if asked for") {
  CHECK(!anthropic_message({"msg_1", "asked"}, collected())
             .contains("context_management"));
  CHECK(
      anthropic_message(
          {"msg_1", "asked", true, true}, collected())["context_management"] ==
      Json::parse(R"({"applied_edits": []})"));
}

TEST_CASE("anthropic message: ids are new each time") {
  AnthropicRequest request;
  request.job.model = "asked";
  request.shows_thinking = false;
  request.edits_context = true;
  const AnthropicAnswer one = make_anthropic_answer(request);
  CHECK(one.model == "asked");
  CHECK(!one.shows_thinking);
  CHECK(one.edits_context);
  CHECK(one.id.rfind("msg_", 0) == 0);
  CHECK(one.id.size() == 28);
  CHECK(std::all_of(one.id.begin() + 4, one.id.end(), [](unsigned char c) {
    return std::isalnum(c);
  }));
  CHECK(one.id != make_anthropic_answer(request).id);
}

TEST_CASE("anthropic message: a prompt that is too long is called that") {
  const ApiError error(ApiErrorKind::invalid_request, "9 tokens, room for 8");
  const auto said = [](const ApiError& what) {
    return Json::parse(anthropic_error(what).body)["error"]["message"];
  };
  CHECK(said(error) == "9 tokens, room for 8");
  CHECK(
      said(error.with_code("context_length_exceeded")) ==
      "prompt is too long: 9 tokens, room for 8");
  CHECK(anthropic_error(error).status == 400);
}
