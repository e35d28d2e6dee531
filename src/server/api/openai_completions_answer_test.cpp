#include "server/api/openai_completions_answer.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"
#include "server/test_loop.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

using Reason = ChoiceEnd::Reason;

namespace {

CompletionForm form_of(std::vector<std::string> prompts) {
  CompletionForm form;
  form.head = {"cmpl-1", "", 77};
  form.prompts = std::move(prompts);
  return form;
}

// The jobs of a request, and its answer.
struct Completed {
  std::shared_ptr<TestExchange> exchange = std::make_shared<TestExchange>();
  ManualLoop loop;
  int failed = 0;
  std::vector<std::shared_ptr<AnswerSink>> sinks;

  explicit Completed(const CompletionForm& form) {
    auto all = form.wishes.stream.stream
        ? make_completion_stream(form, OpenAiStream::make(exchange, loop, 5))
        : make_completion_collector(form, exchange);
    sinks = join_completions(form, std::move(all), [this] { ++failed; });
  }

  void end(size_t prompt, const Usage& usage = {}, const Timings& times = {}) {
    sinks[prompt]->on_choice_end(0, make_end(Reason::stop));
    sinks[prompt]->on_end(usage, times);
  }
  TestJson object() const {
    return TestJson::parse(exchange->written);
  }
};

TestJson parse(const char* text) {
  return TestJson::parse(text);
}

} // namespace

TEST_CASE("openai completions: a whole answer") {
  Completed completed(form_of({"Once"}));
  completed.sinks[0]->on_start({"demo", 2, {}});
  completed.sinks[0]->on_part(0, make_content(" upon"));
  completed.sinks[0]->on_part(0, make_content(" a"));
  completed.sinks[0]->on_choice_end(0, make_end(Reason::length));
  completed.sinks[0]->on_end({2, 0, 2, 0}, {});
  const TestJson object = completed.object();
  CHECK(object["id"] == "cmpl-1");
  CHECK(object["object"] == "text_completion");
  CHECK(object["created"] == 77);
  CHECK(object["model"] == "demo");
  CHECK(object["choices"] == parse(R"([{"index": 0, "text": " upon a",
      "logprobs": null, "finish_reason": "length"}])"));
  CHECK(object["usage"]["total_tokens"] == 4);
  CHECK(object["timings"]["predicted_n"] == 2);
}

TEST_CASE("openai completions: answers to several prompts are one") {
  CompletionForm form = form_of({"a", "b"});
  form.wishes.choices = 2;
  Completed completed(form);
  for (size_t prompt : {1, 0}) {
    completed.sinks[prompt]->on_start({"demo", 2, {}});
    for (size_t choice : {1, 0}) {
      completed.sinks[prompt]->on_part(
          choice, make_content(std::to_string(prompt * 10 + choice)));
      completed.sinks[prompt]->on_choice_end(choice, make_end(Reason::stop));
    }
  }
  completed.sinks[1]->on_end({5, 1, 3, 0}, {1, 2, 3, 4, 5});
  CHECK(!completed.exchange->begun);
  completed.sinks[0]->on_end({6, 2, 4, 0}, {0, 3, 1, 5, 4});
  const TestJson object = completed.object();
  REQUIRE(object["choices"].size() == 4);
  std::string texts;
  for (const TestJson& choice : object["choices"]) {
    texts += choice["text"].get<std::string>() + " ";
  }
  CHECK(texts == "0 1 10 11 ");
  CHECK(object["usage"]["prompt_tokens"] == 11);
  CHECK(object["usage"]["completion_tokens"] == 7);
  CHECK(object["usage"]["prompt_tokens_details"]["cached_tokens"] == 3);
  // Those of the slowest, for they run side by side.
  CHECK(object["timings"]["load_ms"] == 1000);
  CHECK(object["timings"]["queue_ms"] == 3000);
  CHECK(object["timings"]["prompt_ms"] == 3000);
  CHECK(object["timings"]["predicted_ms"] == 5000);
  CHECK(object["timings"]["total_ms"] == 5000);
  CHECK(completed.failed == 0);
}

TEST_CASE("openai completions: the error of one prompt is all that is heard") {
  Completed completed(form_of({"a", "b", "c"}));
  completed.sinks[0]->on_start({"demo", 2, {}});
  completed.sinks[0]->on_part(0, make_content("x"));
  completed.sinks[1]->on_error(ApiError(ApiErrorKind::rate_limited, "busy"));
  CHECK(completed.failed == 1);
  CHECK(completed.exchange->head.status == 429);
  completed.sinks[0]->on_part(0, make_content("y"));
  completed.end(0);
  completed.sinks[2]->on_start({"demo", 2, {}});
  completed.sinks[2]->on_progress({});
  completed.sinks[2]->on_error(ApiError(ApiErrorKind::internal, "more"));
  CHECK(completed.failed == 1);
  CHECK(completed.exchange->protocol_errors == 0);
}

TEST_CASE("openai completions: an echo is what was sent") {
  CompletionForm form = form_of({"Once", ""});
  form.wishes.echo = true;
  Completed completed(form);
  completed.sinks[0]->on_start({"demo", 1, {}});
  completed.sinks[0]->on_part(0, make_content(" upon"));
  // Of a prompt of tokens, their texts.
  completed.sinks[1]->on_start({"demo", 2, {{1, "Tw", 0}, {2, "ice", -1}}});
  completed.sinks[1]->on_part(0, make_content("!"));
  completed.end(0);
  completed.end(1);
  const TestJson object = completed.object();
  CHECK(object["choices"][0]["text"] == "Once upon");
  CHECK(object["choices"][1]["text"] == "Twice!");
  CHECK(object["choices"][0]["logprobs"].is_null());
}

TEST_CASE("openai completions: log-probabilities are arrays of one length") {
  CompletionForm form = form_of({"x"});
  form.wishes.logprobs = true;
  Completed completed(form);
  TokenText token{1, "\xc3\xa4h", -1};
  token.top = {{2, "b", -0.5}, {3, "\xf0\x9f", -4}};
  completed.sinks[0]->on_start({"demo", 1, {}});
  completed.sinks[0]->on_part(0, make_content("\xc3\xa4h", {token}));
  completed.sinks[0]->on_part(0, make_content(" c", {{4, " c", -2}}));
  completed.end(0);
  CHECK(completed.object()["choices"][0]["logprobs"] == parse(R"({
      "tokens": ["äh", " c"],
      "token_logprobs": [-1.0, -2.0],
      "top_logprobs": [
        {"b": -0.5, "bytes:\\xf0\\x9f": -4.0, "äh": -1.0},
        {" c": -2.0}],
      "text_offset": [0, 2]})"));
}

TEST_CASE("openai completions: a prompt's first token has nothing to tell") {
  CompletionForm form = form_of({"ab"});
  form.wishes.logprobs = true;
  form.wishes.echo = true;
  Completed completed(form);
  TokenText second{2, "b", -1};
  second.top = {{2, "b", -1}};
  completed.sinks[0]->on_start({"demo", 2, {{1, "a", 0}, second}});
  completed.sinks[0]->on_part(0, make_content("c", {{3, "c", -2}}));
  completed.end(0);
  const TestJson choice = completed.object()["choices"][0];
  CHECK(choice["text"] == "abc");
  CHECK(choice["logprobs"] == parse(R"({
      "tokens": ["a", "b", "c"],
      "token_logprobs": [null, -1.0, -2.0],
      "top_logprobs": [null, {"b": -1.0}, {"c": -2.0}],
      "text_offset": [0, 1, 2]})"));
}

TEST_CASE(
    "openai completions: a first token that the text does not have "
    "takes no room in it") {
  CompletionForm form = form_of({"ab"});
  form.wishes.logprobs = true;
  form.wishes.echo = true;
  Completed completed(form);
  completed.sinks[0]->on_start(
      {"demo", 3, {{9, "<s>", 0}, {1, "a", -1}, {2, "b", -1}}});
  completed.sinks[0]->on_part(0, make_content("c", {{3, "c", -2}}));
  completed.end(0);
  const TestJson choice = completed.object()["choices"][0];
  CHECK(choice["text"] == "abc");
  CHECK(choice["logprobs"]["text_offset"] == parse("[0, 0, 1, 2]"));
}

TEST_CASE("openai completions: a stream") {
  CompletionForm form = form_of({"ab"});
  form.wishes.stream = {true, true};
  form.wishes.echo = true;
  form.wishes.logprobs = true;
  Completed completed(form);
  completed.sinks[0]->on_start({"demo", 2, {{1, "a", 0}, {2, "b", -1}}});
  completed.sinks[0]->on_part(0, make_content("c", {{3, "c", -2}}));
  completed.sinks[0]->on_part(0, make_content(""));
  completed.end(0, {2, 0, 1, 0});
  const auto chunks = chunks_of(completed.exchange->written);
  REQUIRE(chunks.size() == 4);
  CHECK(chunks[0]["object"] == "text_completion");
  CHECK(chunks[0]["model"] == "demo");
  CHECK(chunks[0]["choices"][0]["text"] == "ab");
  CHECK(chunks[0]["choices"][0]["logprobs"]["text_offset"] == parse("[0, 1]"));
  CHECK(chunks[1]["choices"][0]["text"] == "c");
  CHECK(chunks[1]["choices"][0]["finish_reason"].is_null());
  CHECK(chunks[1]["choices"][0]["logprobs"]["text_offset"] == parse("[2]"));
  CHECK(chunks[2]["choices"][0]["text"] == "");
  CHECK(chunks[2]["choices"][0]["finish_reason"] == "stop");
  CHECK(chunks[3]["choices"] == TestJson::array());
  CHECK(chunks[3]["usage"]["total_tokens"] == 3);
  CHECK(completed.exchange->protocol_errors == 0);
}

TEST_CASE("openai completions: a stream that fails ends with its error") {
  CompletionForm form = form_of({"a", "b"});
  form.wishes.stream = {true};
  Completed completed(form);
  completed.sinks[0]->on_start({"demo", 1, {}});
  completed.sinks[0]->on_part(0, make_content("x"));
  completed.sinks[1]->on_error(ApiError(ApiErrorKind::internal, "broken"));
  const auto events = read_events(completed.exchange->written);
  REQUIRE(events.size() == 2);
  CHECK(events[1].data.find("broken") != std::string::npos);
  CHECK(completed.exchange->ended);
  completed.sinks[0]->on_part(0, make_content("y"));
  CHECK(completed.exchange->protocol_errors == 0);
}
