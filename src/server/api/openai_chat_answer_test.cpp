#include "server/api/openai_chat_answer.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"
#include "server/test_loop.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

using Kind = AnswerPart::Kind;
using Reason = ChoiceEnd::Reason;

namespace {

// An answer that is streamed to a client.
struct Streamed {
  std::shared_ptr<TestExchange> exchange = std::make_shared<TestExchange>();
  ManualLoop loop;
  double now = 0;
  std::shared_ptr<AnswerSink> sink;

  explicit Streamed(
      const ChatWishes& wishes = {true},
      size_t choices = 1,
      bool logprobs = false) {
    const ChatForm form{{"chatcmpl-1", "", 77}, choices, logprobs, wishes};
    sink = make_chat_stream(
        form, OpenAiStream::make(exchange, loop, 5, [this] { return now; }));
  }

  void start() {
    sink->on_start({"demo", 4, {}});
  }
  void pass(double seconds) {
    now += seconds;
    loop.advance(seconds);
  }
  std::vector<TestJson> chunks() const {
    return chunks_of(exchange->written);
  }
};

TestJson delta(const TestJson& chunk) {
  return chunk.at("choices").at(0).at("delta");
}

TestJson finish_reason(const TestJson& chunk) {
  return chunk.at("choices").at(0).at("finish_reason");
}

CollectedAnswer one_choice(CollectedChoice choice) {
  CollectedAnswer answer;
  answer.start.model = "demo";
  answer.choices.push_back(std::move(choice));
  return answer;
}

} // namespace

TEST_CASE("openai chat stream: role, content, finish reason, [DONE]") {
  Streamed streamed;
  CHECK(!streamed.exchange->begun);
  streamed.start();
  CHECK(streamed.exchange->head.content_type == "text/event-stream");
  streamed.sink->on_part(0, make_content("Hel"));
  streamed.sink->on_part(0, make_content("lo"));
  streamed.sink->on_choice_end(0, make_end(Reason::stop));
  streamed.sink->on_end({4, 0, 2, 0}, {});

  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 4);
  for (const TestJson& chunk : chunks) {
    CHECK(chunk["id"] == "chatcmpl-1");
    CHECK(chunk["object"] == "chat.completion.chunk");
    CHECK(chunk["created"] == 77);
    CHECK(chunk["model"] == "demo");
    CHECK(chunk["choices"][0]["index"] == 0);
    CHECK(!chunk.contains("usage"));
  }
  CHECK(delta(chunks[0]) == TestJson{{"role", "assistant"}, {"content", ""}});
  CHECK(delta(chunks[1]) == TestJson{{"content", "Hel"}});
  CHECK(delta(chunks[2]) == TestJson{{"content", "lo"}});
  CHECK(finish_reason(chunks[2]).is_null());
  CHECK(delta(chunks[3]) == TestJson::object());
  CHECK(finish_reason(chunks[3]) == "stop");
  CHECK(chunks[3]["timings"]["predicted_n"] == 2);
  CHECK(streamed.exchange->ended);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("openai chat stream: each part is written as soon as it comes") {
  Streamed streamed;
  streamed.start();
  const size_t before = streamed.exchange->parts.size();
  streamed.sink->on_part(0, make_content("a"));
  CHECK(streamed.exchange->parts.size() == before + 1);
  streamed.sink->on_part(0, make_content(""));
  CHECK(streamed.exchange->parts.size() == before + 1);
}

TEST_CASE("openai chat stream: reasoning has a field of its own") {
  Streamed streamed;
  streamed.start();
  streamed.sink->on_part(0, make_part(Kind::reasoning, "hm"));
  streamed.sink->on_part(0, make_content("Yes"));
  streamed.sink->on_choice_end(0, make_end(Reason::length));
  streamed.sink->on_end({}, {});
  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 4);
  CHECK(delta(chunks[1]) == TestJson{{"reasoning_content", "hm"}});
  CHECK(delta(chunks[2]) == TestJson{{"content", "Yes"}});
  CHECK(finish_reason(chunks[3]) == "length");
}

TEST_CASE("openai chat stream: parallel calls and their arguments in pieces") {
  Streamed streamed;
  streamed.start();
  streamed.sink->on_part(0, make_call(0, "call_a", "look"));
  streamed.sink->on_part(0, make_arguments(0, "{\"x\":"));
  streamed.sink->on_part(0, make_arguments(0, "1}"));
  streamed.sink->on_part(0, make_arguments(0, ""));
  streamed.sink->on_part(0, make_call(1, "call_b", "wait"));
  streamed.sink->on_part(0, make_arguments(1, "{}"));
  streamed.sink->on_choice_end(0, make_end(Reason::tool_calls));
  streamed.sink->on_end({}, {});
  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 7);
  CHECK(delta(chunks[1]) == TestJson::parse(R"({"tool_calls": [
      {"index": 0, "id": "call_a", "type": "function",
       "function": {"name": "look", "arguments": ""}}]})"));
  CHECK(delta(chunks[2]) == TestJson::parse(R"({"tool_calls": [
      {"index": 0, "function": {"arguments": "{\"x\":"}}]})"));
  CHECK(delta(chunks[3]) == TestJson::parse(R"({"tool_calls": [
      {"index": 0, "function": {"arguments": "1}"}}]})"));
  CHECK(delta(chunks[4]) == TestJson::parse(R"({"tool_calls": [
      {"index": 1, "id": "call_b", "type": "function",
       "function": {"name": "wait", "arguments": ""}}]})"));
  CHECK(delta(chunks[5]) == TestJson::parse(R"({"tool_calls": [
      {"index": 1, "function": {"arguments": "{}"}}]})"));
  CHECK(finish_reason(chunks[6]) == "tool_calls");
}

TEST_CASE("openai chat stream: log-probabilities come with their content") {
  Streamed streamed({true}, 1, true);
  streamed.start();
  AnswerPart thought = make_part(Kind::reasoning, "hm");
  thought.tokens = {{1, "hm", -1}};
  streamed.sink->on_part(0, thought);
  streamed.sink->on_part(0, make_content("", {{2, "a", -2}}));
  streamed.sink->on_part(0, make_content("ab", {{3, "b", -3}}));
  streamed.sink->on_choice_end(0, make_end(Reason::stop));
  streamed.sink->on_end({}, {});
  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 5);
  CHECK(chunks[1]["choices"][0]["logprobs"].is_null());
  const TestJson first = chunks[2]["choices"][0]["logprobs"];
  CHECK(delta(chunks[2]) == TestJson{{"content", ""}});
  CHECK(first["content"][0]["token"] == "a");
  CHECK(first["refusal"].is_null());
  const TestJson second = chunks[3]["choices"][0]["logprobs"];
  CHECK(second["content"].size() == 1);
  CHECK(second["content"][0]["logprob"] == -3);
}

TEST_CASE("openai chat stream: several choices are told apart") {
  Streamed streamed({true}, 2);
  streamed.start();
  streamed.sink->on_part(1, make_content("b"));
  streamed.sink->on_part(0, make_content("a"));
  streamed.sink->on_choice_end(1, make_end(Reason::stop));
  streamed.sink->on_part(0, make_content("A"));
  streamed.sink->on_choice_end(0, make_end(Reason::length));
  streamed.sink->on_end({}, {});
  std::string seen;
  for (const TestJson& chunk : streamed.chunks()) {
    const TestJson choice = chunk["choices"][0];
    seen += choice["index"].dump() + choice["delta"].value("content", "-");
    seen += choice["finish_reason"].is_null() ? " " : "! ";
  }
  CHECK(seen == "0 1 1b 0a 1-! 0A 0-! ");
}

TEST_CASE("openai chat stream: usage comes last, without choices") {
  Streamed streamed({true, true});
  streamed.start();
  streamed.sink->on_part(0, make_content("a"));
  streamed.sink->on_choice_end(0, make_end(Reason::stop));
  streamed.sink->on_end({4, 1, 2, 0}, {});
  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 4);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(chunks[i]["usage"].is_null());
    CHECK(!chunks[i].contains("timings"));
  }
  CHECK(finish_reason(chunks[2]) == "stop");
  CHECK(chunks[3]["choices"] == TestJson::array());
  CHECK(chunks[3]["usage"]["total_tokens"] == 6);
  CHECK(chunks[3]["usage"]["prompt_tokens_details"]["cached_tokens"] == 1);
  CHECK(chunks[3].contains("timings"));
}

TEST_CASE("openai chat stream: an error before it begins has its status") {
  Streamed streamed;
  streamed.sink->on_error(ApiError(ApiErrorKind::not_found, "no such model"));
  CHECK(streamed.exchange->head.status == 404);
  CHECK(streamed.exchange->head.content_type == "application/json");
  CHECK(streamed.exchange->ended);
  streamed.pass(20);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("openai chat stream: an error in it is its last event") {
  Streamed streamed;
  streamed.start();
  streamed.sink->on_part(0, make_content("a"));
  streamed.sink->on_error(ApiError(ApiErrorKind::internal, "broken"));
  const auto events = read_events(streamed.exchange->written);
  REQUIRE(events.size() == 3);
  CHECK(events[2].name == "");
  const TestJson last = TestJson::parse(events[2].data);
  CHECK(last["error"]["message"] == "broken");
  CHECK(last["error"]["type"] == "server_error");
  CHECK(streamed.exchange->ended);
  streamed.pass(20);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("openai chat stream: comments while the client waits") {
  Streamed streamed;
  streamed.pass(4.5);
  CHECK(!streamed.exchange->begun);
  streamed.pass(0.5);
  CHECK(streamed.exchange->head.content_type == "text/event-stream");
  CHECK(streamed.exchange->written == ": waiting\n\n");
  streamed.sink->on_progress({3, 0, 0, 0, 0, 0});
  streamed.pass(5);
  streamed.start();
  streamed.sink->on_progress({0, 100, 50, 0, 0, 0});
  streamed.pass(5);
  streamed.sink->on_part(0, make_content("a"));
  streamed.pass(4.5);
  const auto events = read_events(streamed.exchange->written);
  REQUIRE(events.size() == 5);
  CHECK(events[1].comment == ": waiting, 3 before");
  CHECK(events[2].data != "");
  CHECK(events[3].comment == ": prompt 50 of 100 tokens");
  CHECK(events[4].data != "");
}

TEST_CASE("openai chat stream: an error after comments alone is an event") {
  Streamed streamed;
  streamed.pass(5);
  streamed.sink->on_error(ApiError(ApiErrorKind::unavailable, "no model"));
  const auto events = read_events(streamed.exchange->written);
  REQUIRE(events.size() == 2);
  CHECK(events[1].data.find("no model") != std::string::npos);
  CHECK(streamed.exchange->ended);
  CHECK(streamed.exchange->protocol_errors == 0);
}

TEST_CASE("openai chat stream: none of its signs of life outlives it") {
  Streamed streamed;
  streamed.start();
  streamed.sink->on_choice_end(0, make_end(Reason::stop));
  streamed.sink->on_end({}, {});
  const std::string written = streamed.exchange->written;
  streamed.pass(20);
  CHECK(streamed.exchange->written == written);
  CHECK(streamed.loop.timers() == 0);

  Streamed dropped;
  dropped.sink.reset();
  dropped.pass(20);
  CHECK(!dropped.exchange->begun);
}

TEST_CASE("openai chat stream: progress as chunks for those who ask for it") {
  Streamed silent;
  silent.sink->on_progress({0, 100, 50, 10, 0, 0});
  CHECK(!silent.exchange->begun);

  Streamed streamed({true, false, true});
  streamed.sink->on_progress({2, 0, 0, 0, 0, 0});
  streamed.start();
  streamed.sink->on_progress({0, 100, 50, 10, 0, 0});
  streamed.sink->on_choice_end(0, make_end(Reason::stop));
  streamed.sink->on_end({}, {});
  const auto chunks = streamed.chunks();
  REQUIRE(chunks.size() == 4);
  CHECK(chunks[0]["prompt_progress"]["queue_position"] == 2);
  const TestJson progress = chunks[2]["prompt_progress"];
  CHECK(progress["total"] == 100);
  CHECK(progress["cache"] == 10);
  CHECK(progress["processed"] == 50);
  CHECK(progress["time_ms"] >= 0);
  CHECK(delta(chunks[2]) == TestJson::object());
  CHECK(finish_reason(chunks[2]).is_null());
}

TEST_CASE("openai chat: a whole answer") {
  CollectedChoice choice;
  choice.content = "Hello";
  CollectedAnswer answer = one_choice(choice);
  answer.usage = {4, 1, 2, 0};
  const TestJson object = chat_object({{"chatcmpl-1", "", 77}}, answer);
  CHECK(object["id"] == "chatcmpl-1");
  CHECK(object["object"] == "chat.completion");
  CHECK(object["created"] == 77);
  CHECK(object["model"] == "demo");
  CHECK(object["choices"] == TestJson::parse(R"([{
      "index": 0,
      "message": {"role": "assistant", "content": "Hello", "refusal": null,
                  "annotations": []},
      "logprobs": null, "finish_reason": "stop"}])"));
  CHECK(object["usage"]["total_tokens"] == 6);
  CHECK(object["timings"]["predicted_n"] == 2);
}

TEST_CASE("openai chat: a whole answer with reasoning and calls") {
  CollectedChoice choice;
  choice.reasoning = "hm";
  choice.tool_calls = {{"call_1", "look", "{\"a\":1}"}, {"call_2", "w", "{}"}};
  choice.end.reason = Reason::tool_calls;
  const TestJson object = chat_object({}, one_choice(choice));
  const TestJson first = object["choices"][0];
  CHECK(first["finish_reason"] == "tool_calls");
  CHECK(first["message"]["content"].is_null());
  CHECK(first["message"]["reasoning_content"] == "hm");
  CHECK(first["message"]["tool_calls"] == TestJson::parse(R"([
      {"id": "call_1", "type": "function",
       "function": {"name": "look", "arguments": "{\"a\":1}"}},
      {"id": "call_2", "type": "function",
       "function": {"name": "w", "arguments": "{}"}}])"));
}

TEST_CASE("openai chat: an answer of nothing is an empty text") {
  const TestJson object = chat_object({}, one_choice({}));
  CHECK(object["choices"][0]["message"]["content"] == "");
  CHECK(!object["choices"][0]["message"].contains("reasoning_content"));
  CHECK(!object["choices"][0]["message"].contains("tool_calls"));
}

TEST_CASE("openai chat: log-probabilities of a whole answer") {
  CollectedChoice choice;
  choice.tokens = {{1, "a", -1}};
  ChatForm form;
  form.logprobs = true;
  const TestJson object = chat_object(form, one_choice(choice));
  CHECK(object["choices"][0]["logprobs"]["content"][0]["token"] == "a");
}

TEST_CASE("openai chat: what is collected is sent once, or the error is") {
  const auto exchange = std::make_shared<TestExchange>();
  const auto sink = make_chat_collector({{"c", "", 1}}, exchange);
  sink->on_start({"demo", 1, {}});
  sink->on_part(0, make_content("Hi"));
  sink->on_choice_end(0, make_end(Reason::stop));
  CHECK(!exchange->begun);
  sink->on_end({}, {});
  CHECK(exchange->head.status == 200);
  CHECK(exchange->head.content_type == "application/json");
  const TestJson object = TestJson::parse(exchange->written);
  CHECK(object["choices"][0]["message"]["content"] == "Hi");

  const auto other = std::make_shared<TestExchange>();
  make_chat_collector({}, other)->on_error(
      ApiError(ApiErrorKind::rate_limited, "busy"));
  CHECK(other->head.status == 429);
  CHECK(TestJson::parse(other->written)["error"]["message"] == "busy");
}
