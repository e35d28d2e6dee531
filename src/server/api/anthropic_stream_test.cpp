#include "server/api/anthropic_stream.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/anthropic_conversation.h"
#include "server/api/test_exchange.h"
#include "server/test_loop.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Json = nlohmann::ordered_json;

AnswerPart part(AnswerPart::Kind kind, const std::string& text) {
  AnswerPart part;
  part.kind = kind;
  part.text = text;
  return part;
}

AnswerPart call_part(size_t call, const std::string& id) {
  AnswerPart part;
  part.kind = AnswerPart::Kind::tool_call;
  part.call = call;
  part.call_id = id;
  part.call_name = "tool" + std::to_string(call);
  return part;
}

AnswerPart arguments_part(size_t call, const std::string& text) {
  AnswerPart result = part(AnswerPart::Kind::arguments, text);
  result.call = call;
  return result;
}

// A stream and all around it.
struct Streamed {
  explicit Streamed(AnthropicAnswer answer = {"msg_1", "asked"})
      : stream(std::make_shared<AnthropicStream>(
            std::move(answer),
            exchange,
            loop,
            5,
            [this] { return now; })) {
    stream->wait();
  }

  void start() {
    stream->on_start({"demo", 11, {}});
  }
  void content(const std::string& text) {
    stream->on_part(0, part(AnswerPart::Kind::content, text));
  }
  void reasoning(const std::string& text) {
    stream->on_part(0, part(AnswerPart::Kind::reasoning, text));
  }
  void end(ChoiceEnd::Reason reason, const std::string& stop_string = {}) {
    ChoiceEnd choice_end;
    choice_end.reason = reason;
    choice_end.stop_string = stop_string;
    stream->on_choice_end(0, choice_end);
    stream->on_end({11, 4, 7, 2}, {});
  }
  void pass(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      now += 1;
      loop.advance(1);
    }
  }

  // Data of all events; each has the name that its type says.
  std::vector<Json> events() const {
    std::vector<Json> all;
    for (const TestEvent& event : read_events(exchange->written)) {
      all.push_back(Json::parse(event.data));
      CHECK(all.back().at("type") == event.name);
      CHECK(event.comment.empty());
    }
    return all;
  }
  // Their types, and for those of blocks their index and what they hold.
  std::string story() const {
    std::string story;
    for (const Json& event : events()) {
      story += event.at("type").get<std::string>();
      story += event.contains("index") ? event.at("index").dump() : "";
      for (const char* what : {"content_block", "delta"}) {
        if (event.contains(what) && event.at(what).contains("type")) {
          story += " " + event.at(what).at("type").get<std::string>();
        }
      }
      story += "\n";
    }
    return story;
  }

  double now = 0;
  ManualLoop loop;
  std::shared_ptr<TestExchange> exchange = std::make_shared<TestExchange>();
  std::shared_ptr<AnthropicStream> stream;
};

const std::string kBegin = "message_start\nping\n";
const std::string kEnd = "message_delta\nmessage_stop\n";

} // namespace

TEST_CASE("anthropic stream: it begins when the prompt's length is known") {
  Streamed streamed;
  CHECK(!streamed.exchange->begun);
  streamed.start();
  CHECK(streamed.exchange->head.status == 200);
  CHECK(streamed.exchange->head.content_type == "text/event-stream");
  CHECK(streamed.story() == kBegin);
  CHECK(streamed.events()[0].at("message") == Json::parse(R"({
      "id": "msg_1", "type": "message", "role": "assistant", "model": "demo",
      "content": [], "stop_reason": null, "stop_sequence": null,
      "usage": {"input_tokens": 11, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0, "output_tokens": 0,
                "output_tokens_details": {"thinking_tokens": 0}}})"));
  CHECK(streamed.events()[1] == Json::parse(R"({"type": "ping"})"));
}

TEST_CASE("anthropic stream: text is a block, and the end says why") {
  Streamed streamed;
  streamed.start();
  streamed.content("Hel");
  streamed.content("lo");
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(
      streamed.story() ==
      kBegin +
          "content_block_start0 text\n"
          "content_block_delta0 text_delta\n"
          "content_block_delta0 text_delta\n"
          "content_block_stop0\n" +
          kEnd);
  const std::vector<Json> events = streamed.events();
  CHECK(events[2].at("content_block").at("text") == "");
  CHECK(events[3].at("delta").at("text") == "Hel");
  CHECK(events[4].at("delta").at("text") == "lo");
  CHECK(events[6] == Json::parse(R"({
      "type": "message_delta",
      "delta": {"stop_reason": "end_turn", "stop_sequence": null},
      "usage": {"input_tokens": 7, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4, "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 2}}})"));
  CHECK(events[7] == Json::parse(R"({"type": "message_stop"})"));
  CHECK(streamed.exchange->ended);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("anthropic stream: each part is sent when it comes") {
  Streamed streamed;
  streamed.start();
  streamed.content("a");
  streamed.content("b");
  REQUIRE(streamed.exchange->parts.size() == 3);
  CHECK(read_events(streamed.exchange->parts[1]).size() == 2);
  CHECK(read_events(streamed.exchange->parts[2]).size() == 1);
}

TEST_CASE("anthropic stream: thinking is signed, and text follows it") {
  Streamed streamed;
  streamed.start();
  streamed.reasoning("Hm");
  streamed.reasoning(".");
  streamed.content("Yes");
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(
      streamed.story() ==
      kBegin +
          "content_block_start0 thinking\n"
          "content_block_delta0 thinking_delta\n"
          "content_block_delta0 thinking_delta\n"
          "content_block_delta0 signature_delta\n"
          "content_block_stop0\n"
          "content_block_start1 text\n"
          "content_block_delta1 text_delta\n"
          "content_block_stop1\n" +
          kEnd);
  const std::vector<Json> events = streamed.events();
  CHECK(events[2].at("content_block").at("thinking") == "");
  CHECK(events[2].at("content_block").at("signature") == "");
  CHECK(events[3].at("delta").at("thinking") == "Hm");
  CHECK(events[5].at("delta").at("signature") != "");
}

TEST_CASE("anthropic stream: hidden thinking is in its signature alone") {
  Streamed streamed({"msg_1", "asked", false});
  streamed.start();
  streamed.reasoning("Secret");
  streamed.reasoning("ly");
  streamed.content("Yes");
  streamed.reasoning("More");
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(streamed.story().find("thinking_delta") == std::string::npos);
  const std::vector<Json> events = streamed.events();
  CHECK(
      hidden_thinking(
          events[3].at("delta").at("signature").get<std::string>()) ==
      "Secretly");
  CHECK(
      hidden_thinking(
          events[9].at("delta").at("signature").get<std::string>()) == "More");
}

TEST_CASE("anthropic stream: calls are blocks whose input comes in parts") {
  Streamed streamed;
  streamed.start();
  streamed.content("I look.");
  streamed.stream->on_part(0, call_part(0, "call_A1"));
  streamed.stream->on_part(0, arguments_part(0, "{\"a\":"));
  streamed.stream->on_part(0, arguments_part(0, "1}"));
  streamed.stream->on_part(0, call_part(1, "call_B2"));
  streamed.stream->on_part(0, arguments_part(1, "{}"));
  streamed.end(ChoiceEnd::Reason::tool_calls);
  CHECK(
      streamed.story() ==
      kBegin +
          "content_block_start0 text\n"
          "content_block_delta0 text_delta\n"
          "content_block_stop0\n"
          "content_block_start1 tool_use\n"
          "content_block_delta1 input_json_delta\n"
          "content_block_delta1 input_json_delta\n"
          "content_block_stop1\n"
          "content_block_start2 tool_use\n"
          "content_block_delta2 input_json_delta\n"
          "content_block_stop2\n" +
          kEnd);
  const std::vector<Json> events = streamed.events();
  CHECK(events[5].at("content_block") == Json::parse(R"({
      "type": "tool_use", "id": "toolu_A1", "name": "tool0", "input": {}})"));
  CHECK(events[6].at("delta").at("partial_json") == "{\"a\":");
  CHECK(events[7].at("delta").at("partial_json") == "1}");
  CHECK(events[12].at("delta").at("stop_reason") == "tool_use");
}

TEST_CASE("anthropic stream: the end names the stop sequence or the limit") {
  Streamed stopped;
  stopped.start();
  stopped.content("a");
  stopped.end(ChoiceEnd::Reason::stop, "STOP");
  const Json delta = stopped.events()[5].at("delta");
  CHECK(delta.at("stop_reason") == "stop_sequence");
  CHECK(delta.at("stop_sequence") == "STOP");

  Streamed full;
  full.start();
  full.end(ChoiceEnd::Reason::length);
  CHECK(full.story() == kBegin + kEnd); // an answer may have no block
  CHECK(full.events()[2].at("delta").at("stop_reason") == "max_tokens");
}

TEST_CASE("anthropic stream: parts without text begin no block") {
  Streamed streamed;
  streamed.start();
  streamed.reasoning("");
  streamed.content("");
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(streamed.story() == kBegin + kEnd);
}

TEST_CASE("anthropic stream: a silent one says ping") {
  Streamed streamed;
  streamed.start();
  streamed.pass(4);
  CHECK(streamed.story() == kBegin);
  streamed.pass(1);
  CHECK(streamed.story() == kBegin + "ping\n");
  streamed.pass(10);
  CHECK(streamed.story() == kBegin + "ping\nping\nping\n");
}

TEST_CASE(
    "anthropic stream: one that speaks needs no ping, nor after its end") {
  Streamed streamed;
  streamed.start();
  for (int i = 0; i < 5; ++i) {
    streamed.pass(3);
    streamed.content("a");
  }
  streamed.end(ChoiceEnd::Reason::stop);
  streamed.pass(20);
  CHECK(streamed.story().find("ping", kBegin.size()) == std::string::npos);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("anthropic stream: hidden thinking is told of by pings") {
  Streamed streamed({"msg_1", "asked", false});
  streamed.start();
  streamed.reasoning("a");
  for (int i = 0; i < 6; ++i) {
    streamed.pass(1);
    streamed.reasoning("a");
  }
  CHECK(
      streamed.story() ==
      kBegin + "content_block_start0 thinking\n" + "ping\n");
}

TEST_CASE("anthropic stream: one that has to wait begins without a length") {
  Streamed streamed;
  streamed.pass(5);
  CHECK(streamed.story() == kBegin);
  const Json message = streamed.events()[0].at("message");
  CHECK(message.at("model") == "asked");
  CHECK(message.at("usage").at("input_tokens") == 0);
  streamed.pass(5);
  streamed.start();
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(streamed.story() == kBegin + "ping\n" + kEnd);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("anthropic stream: an error before it begins is a response") {
  Streamed streamed;
  streamed.stream->on_error(
      ApiError(ApiErrorKind::invalid_request, "too long"));
  CHECK(streamed.exchange->head.status == 400);
  CHECK(Json::parse(streamed.exchange->written) == Json::parse(R"({
      "type": "error",
      "error": {"type": "invalid_request_error", "message": "too long"}})"));
  streamed.pass(20);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("anthropic stream: an error in it is an event and its end") {
  Streamed streamed;
  streamed.start();
  streamed.content("a");
  streamed.stream->on_error(ApiError(ApiErrorKind::internal, "broken"));
  CHECK(
      streamed.story() ==
      kBegin +
          "content_block_start0 text\n"
          "content_block_delta0 text_delta\n"
          "error\n");
  CHECK(streamed.events()[4] == Json::parse(R"({
      "type": "error", "error": {"type": "api_error", "message": "broken"}})"));
  CHECK(streamed.exchange->ended);
  streamed.pass(20);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("anthropic stream: text that is no UTF-8 is replaced") {
  Streamed streamed;
  streamed.start();
  streamed.content("a\xff");
  CHECK(streamed.events()[3].at("delta").at("text") == "a\xef\xbf\xbd");
}

TEST_CASE("anthropic stream: who asked for edits is told there are none") {
  Streamed streamed({"msg_1", "asked", true, true});
  streamed.start();
  streamed.end(ChoiceEnd::Reason::stop);
  CHECK(
      streamed.events()[2].at("context_management") ==
      Json::parse(R"({"applied_edits": []})"));
}

TEST_CASE("anthropic stream: one that was dropped is silent") {
  Streamed streamed;
  streamed.start();
  streamed.stream.reset(); // as cancelling does
  streamed.pass(20);
  CHECK(streamed.story() == kBegin);
}
