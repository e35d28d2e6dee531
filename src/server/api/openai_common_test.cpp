#include "server/api/openai_common.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

TEST_CASE("openai common: a head has the request's own id") {
  const AnswerHead head = make_head("chatcmpl-", "r-7", "demo");
  CHECK(head.id == "chatcmpl-r-7");
  CHECK(head.model == "demo");
  CHECK(head.created > 1'600'000'000);
}

TEST_CASE("openai common: usage with what was cached and what was thought") {
  CHECK(usage_object({10, 4, 7, 3}) == TestJson::parse(R"({
      "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
      "prompt_tokens_details": {"cached_tokens": 4},
      "completion_tokens_details": {"reasoning_tokens": 3}})"));
}

TEST_CASE("openai common: timings are of what was computed") {
  const TestJson timings = timings_object({10, 4, 8, 0}, {1, 2, 3, 4, 10});
  CHECK(timings["cache_n"] == 4);
  CHECK(timings["prompt_n"] == 6);
  CHECK(timings["prompt_ms"] == 3000);
  CHECK(timings["prompt_per_token_ms"] == 500);
  CHECK(timings["prompt_per_second"] == 2);
  CHECK(timings["predicted_n"] == 8);
  CHECK(timings["predicted_ms"] == 4000);
  CHECK(timings["predicted_per_token_ms"] == 500);
  CHECK(timings["predicted_per_second"] == 2);
  CHECK(timings["load_ms"] == 1000);
  CHECK(timings["queue_ms"] == 2000);
  CHECK(timings["total_ms"] == 10000);
}

TEST_CASE("openai common: timings of nothing are numbers, too") {
  const TestJson timings = timings_object({}, {});
  for (const auto& [name, value] : timings.items()) {
    CAPTURE(name);
    CHECK(value == 0);
  }
}

TEST_CASE("openai common: progress for programs and for people") {
  PromptProgress progress;
  CHECK(progress_words(progress) == "waiting");
  progress.queue_position = 2;
  CHECK(progress_words(progress) == "waiting, 2 before");
  progress = {0, 100, 40, 10, 12.5, 4.8};
  CHECK(
      progress_words(progress) ==
      "prompt 40 of 100 tokens, 12.5 tokens/s, 5 s left");
  progress.tokens_per_second = 0;
  CHECK(progress_words(progress) == "prompt 40 of 100 tokens");
  CHECK(
      progress_object(progress, 0.5) ==
      TestJson::parse(R"({"total": 100, "cache": 10, "processed": 40,
          "time_ms": 500.0, "queue_position": 0, "seconds_left": 4.8})"));
}

TEST_CASE(
    "openai common: tokens with their bytes and the best at their place") {
  TokenText token{5, "\xc3\xa4", -0.5};
  token.top = {{5, "\xc3\xa4", -0.5}, {6, "b", -2}};
  const std::vector<TokenText> tokens{token};
  CHECK(logprobs_object(tokens) == TestJson::parse(R"({
      "content": [{
        "token": "ä", "logprob": -0.5, "bytes": [195, 164],
        "top_logprobs": [
          {"token": "ä", "logprob": -0.5, "bytes": [195, 164]},
          {"token": "b", "logprob": -2.0, "bytes": [98]}]}],
      "refusal": null})"));
}

TEST_CASE("openai common: a part of a character is told by its bytes") {
  CHECK(token_name("plain") == "plain");
  CHECK(
      token_name("\xe4\xb8\xad\xf0\x9f\x98\x80") ==
      "\xe4\xb8\xad\xf0\x9f\x98\x80");
  CHECK(token_name("\xf0\x9f") == "\\xf0\\x9f");
  CHECK(token_name("a\xe4\xb8") == "a\\xe4\\xb8");
  CHECK(token_name("\xad z") == "\\xad z");
  // Longer than need be, half of UTF-16's pairs, beyond the last character.
  CHECK(token_name("\xc0\xaf") == "\\xc0\\xaf");
  CHECK(token_name("\xe0\x80\xaf") == "\\xe0\\x80\\xaf");
  CHECK(token_name("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(token_name("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(token_name("\xff") == "\\xff");
}

TEST_CASE("openai common: whatever the bytes, names are JSON") {
  std::vector<TokenText> tokens;
  for (int a = 0; a < 256; ++a) {
    for (const int b : {0x00, 0x41, 0x80, 0xbf, 0xc3, 0xe4, 0xf0, 0xff}) {
      const char bytes[] = {static_cast<char>(a), static_cast<char>(b)};
      tokens.push_back({0, std::string(bytes, 2), -1});
    }
  }
  const TestJson object = logprobs_object(tokens);
  CHECK_NOTHROW((void)object.dump()); // which is strict about UTF-8
}

TEST_CASE("openai common: a log-probability is a number") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(logprob_number(-0.25) == -0.25);
  CHECK(logprob_number(-infinity) == -9999);
  CHECK(logprob_number(std::nan("")) == -9999);
}
