#include "server/api/answer_collector.h"

#include <doctest/doctest.h>

#include "server/api/test_exchange.h"
#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

using Kind = AnswerPart::Kind;

TEST_CASE("answer collector: parts of each choice are put together") {
  std::optional<CollectedAnswer> answer;
  AnswerCollector sink(
      2,
      std::make_shared<TestExchange>(),
      [&](CollectedAnswer all) { answer = std::move(all); },
      [](const ApiError&) { FAIL("no error"); });
  sink.on_start({"demo", 5, {}});
  sink.on_part(0, make_part(Kind::reasoning, "let me "));
  sink.on_part(1, make_content("b", {{2, "b", -2}}));
  sink.on_part(0, make_part(Kind::reasoning, "see"));
  sink.on_part(0, make_content("Yes", {{1, "Yes", -1}}));
  sink.on_part(0, make_call(0, "call_1", "look"));
  sink.on_part(0, make_arguments(0, "{\"a\""));
  sink.on_part(0, make_content(", and"));
  sink.on_part(0, make_call(1, "call_2", "find"));
  sink.on_part(0, make_arguments(1, "{}"));
  sink.on_part(0, make_arguments(0, ":1}"));
  sink.on_choice_end(0, make_end(ChoiceEnd::Reason::tool_calls));
  sink.on_choice_end(1, make_end(ChoiceEnd::Reason::length));
  CHECK(!answer);
  sink.on_end({5, 3, 9, 2}, {});

  REQUIRE(answer);
  CHECK(answer->start.model == "demo");
  CHECK(answer->usage.cached_tokens == 3);
  const CollectedChoice& first = answer->choices.at(0);
  CHECK(first.reasoning == "let me see");
  CHECK(first.content == "Yes, and");
  CHECK(first.call_places == std::vector<size_t>{3, 8});
  REQUIRE(first.tokens.size() == 1);
  CHECK(first.tokens[0].bytes == "Yes");
  REQUIRE(first.tool_calls.size() == 2);
  CHECK(first.tool_calls[0].id == "call_1");
  CHECK(first.tool_calls[0].name == "look");
  CHECK(first.tool_calls[0].arguments == "{\"a\":1}");
  CHECK(first.tool_calls[1].arguments == "{}");
  CHECK(first.end.reason == ChoiceEnd::Reason::tool_calls);
  CHECK(answer->choices.at(1).content == "b");
  CHECK(answer->choices.at(1).end.reason == ChoiceEnd::Reason::length);
}

TEST_CASE("answer collector: log-probabilities are those of the content") {
  std::optional<CollectedAnswer> answer;
  AnswerCollector sink(
      1,
      std::make_shared<TestExchange>(),
      [&](CollectedAnswer all) { answer = std::move(all); },
      [](const ApiError&) {});
  AnswerPart thought = make_part(Kind::reasoning, "hm");
  thought.tokens = {{7, "hm", -1}};
  sink.on_part(0, thought);
  sink.on_part(0, make_content("", {{1, "a", -1}}));
  sink.on_part(0, make_content("ab", {{2, "b", -1}}));
  sink.on_end({}, {});
  REQUIRE(answer);
  REQUIRE(answer->choices[0].tokens.size() == 2);
  CHECK(answer->choices[0].tokens[0].id == 1);
  CHECK(answer->choices[0].tokens[1].id == 2);
}

TEST_CASE("answer collector: an error takes the place of the answer") {
  std::string why;
  AnswerCollector sink(
      1,
      std::make_shared<TestExchange>(),
      [](CollectedAnswer) { FAIL("no answer"); },
      [&](const ApiError& error) { why = error.what(); });
  sink.on_part(0, make_content("half"));
  sink.on_error(ApiError(ApiErrorKind::internal, "broken"));
  CHECK(why == "broken");
}

TEST_CASE("answer collector: log-probabilities count until there is no room") {
  const auto exchange = std::make_shared<TestExchange>();
  exchange->room = 5 * HeldLogprobs::kAsText;
  AnswerCollector sink(
      1,
      exchange,
      [](CollectedAnswer) { FAIL("no answer"); },
      [](const ApiError&) {});
  AnswerPart part = make_content("a", {{1, "a", -1, {{1, "a", -1}}}});
  sink.on_part(0, make_content("no tokens, no matter how long"));
  CHECK(exchange->held == 0);
  sink.on_part(0, part);
  sink.on_part(0, part);
  CHECK(exchange->held == 4 * HeldLogprobs::kAsText);
  CHECK_THROWS_AS(sink.on_part(0, part), ApiError);
}
