#include "server/api/openai_responses_stream.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/test_exchange.h"
#include "server/api_error.h"
#include "server/test_loop.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;
using Kind = AnswerPart::Kind;

namespace {

AnswerPart content(const std::string& text) {
  AnswerPart part;
  part.text = text;
  return part;
}

// A request and its sink, in a world whose clock the test moves.
struct Answer {
  explicit Answer(const std::string& body)
      : request(read_response_request(Json::parse(body), {}, *store)),
        sink(
            request.stream ? make_response_stream(
                                 exchange,
                                 request,
                                 store,
                                 loop,
                                 5,
                                 [this] { return now; })
                           : make_whole_response(exchange, request, store)) {}
  ~Answer() {
    CHECK(exchange->protocol_errors == 0);
  }

  void pass(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      now += 1;
      loop.advance(1);
    }
  }

  void say(const std::string& text) {
    sink->on_start({"model", 10, {}});
    sink->on_part(0, content(text));
    sink->on_choice_end(0, {});
    sink->on_end({10, 0, 1, 0}, {});
  }

  std::string id() const {
    return Json::parse(*request.echo).at("id");
  }

  // Types of events and comments, without "response.".
  std::string told() const {
    std::string text;
    for (const TestEvent& event : read_events(exchange->written)) {
      if (!event.comment.empty()) {
        text += "(" + event.comment.substr(1) + ") ";
      }
      if (!event.name.empty()) {
        CHECK(Json::parse(event.data)["type"] == event.name);
        text += event.name.substr(event.name.find('.') + 1) + " ";
      }
    }
    return text;
  }

  double now = 0;
  ManualLoop loop;
  std::shared_ptr<ResponseStore> store =
      std::make_shared<ResponseStore>(10, 1u << 20);
  std::shared_ptr<TestExchange> exchange = std::make_shared<TestExchange>();
  ResponseRequest request;
  std::shared_ptr<AnswerSink> sink;
};

constexpr const char* kStream =
    R"({"model": "m", "input": "Hi", "stream": true})";

} // namespace

TEST_CASE("response stream: begins when there is something to tell") {
  Answer answer(kStream);
  CHECK_FALSE(answer.exchange->begun);
  answer.sink->on_start({"model", 10, {}});
  CHECK(answer.exchange->begun);
  CHECK(answer.exchange->head.content_type == "text/event-stream");
  CHECK(answer.told() == "created in_progress ");
  answer.sink->on_part(0, content("Hello"));
  CHECK(
      answer.told() ==
      "created in_progress output_item.added content_part.added "
      "output_text.delta ");
  answer.sink->on_choice_end(0, {});
  answer.sink->on_end({10, 0, 1, 0}, {});
  CHECK(answer.exchange->ended);
  CHECK(
      answer.told() ==
      "created in_progress output_item.added content_part.added "
      "output_text.delta output_text.done content_part.done output_item.done "
      "completed ");
}

TEST_CASE("response stream: what goes wrong before is a proper error") {
  Answer answer(kStream);
  answer.sink->on_error(
      ApiError(ApiErrorKind::invalid_request, "too long").at("input"));
  CHECK(answer.exchange->head.status == 400);
  CHECK(Json::parse(answer.exchange->written)["error"]["param"] == "input");
}

TEST_CASE("response stream: what goes wrong later is an event") {
  Answer answer(kStream);
  answer.sink->on_start({"model", 10, {}});
  answer.sink->on_error(ApiError(ApiErrorKind::internal, "a disk is gone"));
  CHECK(answer.exchange->head.status == 200);
  CHECK(answer.exchange->ended);
  CHECK(answer.told() == "created in_progress failed ");
  CHECK(answer.store->find(answer.id()) == nullptr);
}

TEST_CASE("response stream: who waits hears of it, until there is text") {
  Answer answer(kStream);
  PromptProgress progress;
  progress.queue_position = 2;
  answer.sink->on_progress(progress);
  answer.pass(4);
  CHECK_FALSE(answer.exchange->begun);
  answer.pass(2);
  CHECK(answer.told() == "( waiting, 2 before) created ");
  answer.pass(5);
  CHECK(
      answer.told() ==
      "( waiting, 2 before) created ( waiting, 2 before) queued ");

  answer.exchange->written.clear();
  answer.sink->on_start({"model", 10, {}});
  progress.queue_position = 0;
  progress.prompt_tokens = 10;
  progress.prompt_read = 4;
  answer.sink->on_progress(progress);
  answer.pass(5);
  CHECK(answer.told() == "in_progress ( prompt 4 of 10 tokens) in_progress ");

  answer.sink->on_part(0, content("Hello"));
  answer.exchange->written.clear();
  answer.pass(5);
  CHECK(answer.exchange->written == ":\n\n");

  answer.sink->on_choice_end(0, {});
  answer.sink->on_end({10, 0, 1, 0}, {});
  answer.exchange->written.clear();
  answer.pass(20);
  CHECK(answer.exchange->written.empty());
}

TEST_CASE("response stream: events are numbered one after the other") {
  Answer answer(kStream);
  answer.pass(12);
  answer.say("Hello");
  int64_t number = 0;
  for (const TestEvent& event : read_events(answer.exchange->written)) {
    if (!event.data.empty()) {
      CHECK(Json::parse(event.data)["sequence_number"] == number++);
    }
  }
  CHECK(number > 8);
}

TEST_CASE("response stream: an answer is kept before its last event") {
  Answer answer(kStream);
  answer.say("Hello");
  const auto kept = answer.store->find(answer.id());
  REQUIRE(kept != nullptr);
  CHECK(kept->input.size() == 1);
  CHECK(kept->output.size() == 1);
  const auto events = read_events(answer.exchange->written);
  CHECK(Json::parse(events.back().data)["response"] == Json::parse(kept->json));
}

TEST_CASE("whole response: it is sent and kept in one piece") {
  Answer answer(R"({"model": "m", "input": "Hi"})");
  answer.say("Hello");
  CHECK(answer.exchange->head.status == 200);
  CHECK(answer.exchange->head.content_type == "application/json");
  const Json response = Json::parse(answer.exchange->written);
  CHECK(response["model"] == "model");
  CHECK(response["output"][0]["content"][0]["text"] == "Hello");
  REQUIRE(answer.store->find(answer.id()) != nullptr);
  CHECK(answer.store->find(answer.id())->json == answer.exchange->written);
}

TEST_CASE("whole response: errors are those of the dialect") {
  Answer answer(R"({"input": "Hi"})");
  answer.sink->on_error(ApiError(ApiErrorKind::rate_limited, "too many"));
  CHECK(answer.exchange->head.status == 429);
  CHECK(
      Json::parse(answer.exchange->written)["error"]["message"] == "too many");
}

TEST_CASE("responses: what is not to be kept is not kept") {
  for (const char* stream : {"true", "false"}) {
    Answer answer(
        R"({"input": "Hi", "store": false, "stream": )" + std::string(stream) +
        "}");
    answer.say("Hello");
    CHECK(answer.store->size() == 0);
  }
}

TEST_CASE("responses: a conversation goes on by the last response's id") {
  Answer first(R"({"input": "2+2?"})");
  first.say("4");
  const std::string body =
      Json{{"previous_response_id", first.id()}, {"input", "And 3+3?"}}.dump();
  ResponseRequest next =
      read_response_request(Json::parse(body), {}, *first.store);
  const auto exchange = std::make_shared<TestExchange>();
  const auto sink = make_whole_response(exchange, next, first.store);
  sink->on_start({"model", 10, {}});
  sink->on_part(0, content("6"));
  sink->on_choice_end(0, {});
  sink->on_end({10, 0, 1, 0}, {});

  const std::string id = Json::parse(*next.echo).at("id");
  first.store->erase(first.id()); // the second holds what it needs of it
  const ResponseRequest third = read_response_request(
      Json{{"previous_response_id", id}, {"input", "And?"}}, {}, *first.store);
  const auto& messages = std::get<Conversation>(third.job.prompt).messages;
  REQUIRE(messages.size() == 5);
  CHECK(messages[0].content == "2+2?");
  CHECK(messages[1].content == "4");
  CHECK(messages[2].content == "And 3+3?");
  CHECK(messages[3].content == "6");
  CHECK(messages[4].content == "And?");
}
