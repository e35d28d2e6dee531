#include "base/rfc3339.h"
#include "server/api/ollama_stream.h"

#include <doctest/doctest.h>

#include <limits>

#include "server/api/test_exchange.h"
#include "server/api/test_ollama.h"
#include "server/test_loop.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Kind = AnswerPart::Kind;

AnswerPart part(Kind kind, std::string text) {
  AnswerPart made;
  made.kind = kind;
  made.text = std::move(text);
  return made;
}
AnswerPart call(size_t number, std::string id, std::string name) {
  AnswerPart made;
  made.kind = Kind::tool_call;
  made.call = number;
  made.call_id = std::move(id);
  made.call_name = std::move(name);
  return made;
}
AnswerPart arguments(size_t number, std::string text) {
  AnswerPart made = part(Kind::arguments, std::move(text));
  made.call = number;
  return made;
}

ChoiceEnd ended(ChoiceEnd::Reason reason) {
  ChoiceEnd end;
  end.reason = reason;
  return end;
}

// An answer on its way to a client, on a clock that a test moves.
struct Answer {
  explicit Answer(OllamaKind kind = OllamaKind::chat, bool stream = true)
      : exchange(std::make_shared<TestExchange>()),
        reply(std::make_shared<OllamaReply>(kind, "qwen3", test_moment)) {
    if (!stream) {
      sink = make_whole_ollama_answer(exchange, reply);
      return;
    }
    auto made = std::make_shared<OllamaStream>(
        exchange, reply, loop, 5, [this] { return time; });
    made->wait();
    sink = made;
  }

  void advance(double seconds) {
    time += seconds;
    loop.advance(seconds);
  }
  void finish(ChoiceEnd::Reason reason = ChoiceEnd::Reason::stop) {
    sink->on_choice_end(0, ended(reason));
    sink->on_end({12, 4, 34, 5}, {0.5, 0.25, 1.5, 2, 4.25});
  }
  std::vector<Json> lines() const {
    return read_lines(exchange->written);
  }

  double time = 0;
  ManualLoop loop;
  std::shared_ptr<TestExchange> exchange;
  std::shared_ptr<OllamaReply> reply;
  std::shared_ptr<AnswerSink> sink;
};

} // namespace

TEST_CASE("times are written to the nanosecond") {
  CHECK(rfc3339(test_moment()) == "2026-11-22T22:07:00.000000123Z");
  CHECK(rfc3339({}) == "1970-01-01T00:00:00.000000000Z");
  CHECK(
      rfc3339(test_moment() - std::chrono::nanoseconds(124)) ==
      "2026-11-22T22:06:59.999999999Z");
}

TEST_CASE("ollama stream: lines of a chat, and the last one with figures") {
  Answer answer;
  answer.sink->on_part(0, part(Kind::content, "Hel"));
  answer.sink->on_part(0, part(Kind::content, "lo \"x\"\n"));
  answer.finish();
  CHECK(answer.exchange->head.status == 200);
  CHECK(answer.exchange->head.content_type == "application/x-ndjson");
  CHECK(answer.exchange->header("cache-control") == "no-store");
  CHECK(answer.exchange->ended);
  CHECK(answer.exchange->protocol_errors == 0);
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == Json::parse(R"({"model": "qwen3",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "message": {"role": "assistant", "content": "Hel"},
          "done": false})"));
  CHECK(lines[1]["message"]["content"] == "lo \"x\"\n");
  CHECK(lines[2] == Json::parse(R"({"model": "qwen3",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "message": {"role": "assistant", "content": ""},
          "done": true, "done_reason": "stop",
          "total_duration": 4250000000, "load_duration": 500000000,
          "prompt_eval_count": 12, "prompt_eval_duration": 1500000000,
          "eval_count": 34, "eval_duration": 2000000000})"));
}

TEST_CASE("ollama stream: each part is a line that is sent at once") {
  Answer answer;
  CHECK(!answer.exchange->begun);
  answer.sink->on_part(0, part(Kind::content, "a"));
  CHECK(answer.exchange->parts.size() == 1);
  answer.sink->on_part(0, part(Kind::content, "b"));
  REQUIRE(answer.exchange->parts.size() == 2);
  CHECK(answer.exchange->parts[1].back() == '\n');
  CHECK(read_lines(answer.exchange->parts[1]).size() == 1);
}

TEST_CASE("ollama stream: lines of a generation") {
  Answer answer(OllamaKind::generate);
  answer.sink->on_part(0, part(Kind::reasoning, "Hm."));
  answer.sink->on_part(0, part(Kind::content, "Yes"));
  answer.finish(ChoiceEnd::Reason::length);
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == Json::parse(R"({"model": "qwen3",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "response": "", "thinking": "Hm.", "done": false})"));
  CHECK(lines[1]["response"] == "Yes");
  CHECK(!lines[1].contains("thinking"));
  CHECK(!lines[1].contains("message"));
  CHECK(lines[2]["response"] == "");
  CHECK(lines[2]["done"] == true);
  CHECK(lines[2]["done_reason"] == "length");
}

TEST_CASE("ollama stream: reasoning is thinking, beside an empty content") {
  Answer answer;
  answer.sink->on_part(0, part(Kind::reasoning, "Hm."));
  answer.sink->on_part(0, part(Kind::content, "Yes"));
  answer.finish();
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 3);
  CHECK(
      lines[0]["message"] ==
      Json::parse(
          R"({"role": "assistant", "content": "", "thinking": "Hm."})"));
  CHECK(
      lines[1]["message"] ==
      Json::parse(R"({"role": "assistant", "content": "Yes"})"));
}

TEST_CASE("ollama stream: a call is one line, with its arguments as object") {
  Answer answer;
  answer.sink->on_part(0, part(Kind::content, "Wait."));
  answer.sink->on_part(0, call(0, "call_a", "weather"));
  answer.sink->on_part(0, arguments(0, R"({"city":)"));
  answer.sink->on_part(0, arguments(0, R"("Tokyo"})"));
  CHECK(answer.lines().size() == 1); // nothing of the call yet
  answer.sink->on_part(0, call(1, "call_b", "now"));
  CHECK(answer.lines().size() == 2);
  answer.sink->on_part(0, arguments(1, "{}"));
  answer.finish(ChoiceEnd::Reason::tool_calls);
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 4);
  CHECK(
      lines[1]["message"] ==
      Json::parse(R"({"role": "assistant", "content": "", "tool_calls": [
          {"id": "call_a", "function": {"index": 0, "name": "weather",
           "arguments": {"city": "Tokyo"}}}]})"));
  CHECK(lines[1]["done"] == false);
  CHECK(
      lines[2]["message"]["tool_calls"] ==
      Json::parse(R"([{"id": "call_b", "function":
          {"index": 1, "name": "now", "arguments": {}}}])"));
  CHECK(lines[3]["done_reason"] == "stop");
}

TEST_CASE("ollama stream: content behind a call comes behind it") {
  Answer answer;
  answer.sink->on_part(0, call(0, "c", "f"));
  answer.sink->on_part(0, arguments(0, R"({"a":1})"));
  answer.sink->on_part(0, part(Kind::content, "Done."));
  answer.finish();
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["message"].contains("tool_calls"));
  CHECK(lines[1]["message"]["content"] == "Done.");
}

TEST_CASE("ollama stream: a call without arguments has none") {
  Answer answer;
  answer.sink->on_part(0, call(0, "c", "f"));
  answer.finish();
  CHECK(
      answer.lines().at(
          0)["message"]["tool_calls"][0]["function"]["arguments"] ==
      Json::object());
}

TEST_CASE("ollama stream: log-probabilities come with the text") {
  Answer answer;
  AnswerPart text = part(Kind::content, "\u00e9");
  // A character of two tokens, one of which cannot be.
  text.tokens.push_back({1, "\xC3", -0.5, {{1, "\xC3", -0.5}, {2, "e", -2}}});
  text.tokens.push_back(
      {3, "\xA9", -std::numeric_limits<double>::infinity(), {}});
  answer.sink->on_part(0, text);
  answer.finish();
  const Json line = answer.lines().at(0);
  REQUIRE(line["logprobs"].size() == 2);
  const Json& first = line["logprobs"][0];
  CHECK(first["token"] == "\uFFFD");
  CHECK(first["bytes"] == Json::array({0xC3}));
  CHECK(first["logprob"] == -0.5);
  REQUIRE(first["top_logprobs"].size() == 2);
  CHECK(first["top_logprobs"][1]["token"] == "e");
  CHECK(line["logprobs"][1]["logprob"] == -9999);
  CHECK(!line["logprobs"][1].contains("top_logprobs"));
  CHECK(!answer.lines().back().contains("logprobs"));
}

TEST_CASE("ollama stream: an error before the first line has its status") {
  Answer answer;
  answer.sink->on_error(
      ApiError(ApiErrorKind::rate_limited, "the queue is full"));
  CHECK(answer.exchange->head.status == 429);
  CHECK(answer.exchange->head.content_type == "application/json");
  CHECK(
      Json::parse(answer.exchange->written) ==
      Json{{"error", "the queue is full"}});
  CHECK(answer.exchange->ended);
}

TEST_CASE("ollama stream: an error in the middle is its last line") {
  Answer answer;
  answer.sink->on_part(0, part(Kind::content, "a"));
  answer.sink->on_error(ApiError(ApiErrorKind::internal, "the disk is gone"));
  const auto lines = answer.lines();
  REQUIRE(lines.size() == 2);
  CHECK(lines[1] == Json{{"error", "the disk is gone"}});
  CHECK(answer.exchange->head.status == 200);
  CHECK(answer.exchange->ended);
  CHECK(answer.exchange->protocol_errors == 0);
  answer.advance(60); // and nothing is said behind it
  CHECK(answer.lines().size() == 2);
}

TEST_CASE("ollama stream: a waiting client gets empty texts, with progress") {
  Answer answer;
  answer.advance(4.9);
  CHECK(!answer.exchange->begun);
  answer.advance(0.2);
  REQUIRE(answer.lines().size() == 1);
  CHECK(answer.lines()[0] == Json::parse(R"({"model": "qwen3",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "message": {"role": "assistant", "content": ""},
          "done": false})"));
  answer.sink->on_progress({0, 1000, 250, 100, 50, 15});
  CHECK(answer.lines().size() == 1);
  answer.advance(5.5);
  REQUIRE(answer.lines().size() == 2);
  CHECK(
      answer.lines()[1]["progress"] ==
      Json::parse(R"({"queue_position": 0, "prompt_tokens": 1000,
          "prompt_read": 250, "cached_tokens": 100,
          "tokens_per_second": 50.0, "seconds_left": 15.0})"));
  answer.sink->on_part(0, part(Kind::content, "a"));
  answer.advance(4);
  answer.sink->on_part(0, part(Kind::content, "b"));
  answer.advance(4); // less than five since the last
  CHECK(answer.lines().size() == 4);
  answer.advance(2);
  REQUIRE(answer.lines().size() == 5);
  CHECK(!answer.lines()[4].contains("progress")); // it is over
  answer.finish();
  answer.advance(60);
  CHECK(answer.lines().size() == 6);
  CHECK(answer.exchange->protocol_errors == 0);
}

TEST_CASE("ollama stream: a client that is gone is not written to") {
  Answer answer;
  answer.sink.reset();
  answer.advance(60);
  CHECK(!answer.exchange->begun);
}

TEST_CASE("ollama: an answer in one piece") {
  Answer answer(OllamaKind::chat, false);
  answer.sink->on_part(0, part(Kind::reasoning, "Hm."));
  answer.sink->on_part(0, part(Kind::content, "Hel"));
  AnswerPart more = part(Kind::content, "lo");
  more.tokens.push_back({7, "lo", -1, {}});
  answer.sink->on_part(0, more);
  answer.sink->on_part(0, call(0, "call_a", "f"));
  answer.sink->on_part(0, arguments(0, R"({"x":1})"));
  answer.sink->on_part(0, call(1, "call_b", "g"));
  CHECK(!answer.exchange->begun);
  answer.reply->add_load_seconds(1);
  answer.finish(ChoiceEnd::Reason::tool_calls);
  CHECK(answer.exchange->head.content_type == "application/json");
  CHECK(
      Json::parse(answer.exchange->written) == Json::parse(R"({"model": "qwen3",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "message": {"role": "assistant", "content": "Hello",
              "thinking": "Hm.", "tool_calls": [
                  {"id": "call_a", "function":
                      {"index": 0, "name": "f", "arguments": {"x": 1}}},
                  {"id": "call_b", "function":
                      {"index": 1, "name": "g", "arguments": {}}}]},
          "done": true, "done_reason": "stop",
          "total_duration": 4250000000, "load_duration": 1500000000,
          "prompt_eval_count": 12, "prompt_eval_duration": 1500000000,
          "eval_count": 34, "eval_duration": 2000000000,
          "logprobs": [{"token": "lo", "logprob": -1.0,
                        "bytes": [108, 111]}]})"));
}

TEST_CASE("ollama: a generation in one piece") {
  Answer answer(OllamaKind::generate, false);
  answer.sink->on_part(0, part(Kind::reasoning, "Hm."));
  answer.sink->on_part(0, part(Kind::content, "Yes"));
  answer.finish();
  const Json object = Json::parse(answer.exchange->written);
  CHECK(object["response"] == "Yes");
  CHECK(object["thinking"] == "Hm.");
  CHECK(object["done"] == true);
  CHECK(!object.contains("message"));
}

TEST_CASE("ollama: an error instead of an answer in one piece") {
  Answer answer(OllamaKind::chat, false);
  answer.sink->on_part(0, part(Kind::content, "a"));
  answer.sink->on_error(ApiError(ApiErrorKind::unavailable, "stopping"));
  CHECK(answer.exchange->head.status == 503);
  CHECK(Json::parse(answer.exchange->written) == Json{{"error", "stopping"}});
}

TEST_CASE("ollama: a model that was loaded or let go") {
  const OllamaReply chat(OllamaKind::chat, "m", test_moment);
  CHECK(Json::parse(chat.done("load")) == Json::parse(R"({"model": "m",
          "created_at": "2026-11-22T22:07:00.000000123Z",
          "message": {"role": "assistant", "content": ""},
          "done": true, "done_reason": "load"})"));
  const OllamaReply generate(OllamaKind::generate, "m", test_moment);
  CHECK(Json::parse(generate.done("unload"))["response"] == "");
  CHECK(Json::parse(generate.done("unload"))["done_reason"] == "unload");
}
