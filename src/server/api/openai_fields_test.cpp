#include "server/api/openai_fields.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

TEST_CASE("openai fields: what a request does not name is left to the model") {
  const Job job = read_chat("{}");
  CHECK(!job.sampling.temperature);
  CHECK(!job.sampling.top_k);
  CHECK(!job.sampling.top_p);
  CHECK(!job.sampling.min_p);
  CHECK(!job.sampling.repetition_penalty);
  CHECK(!job.sampling.presence_penalty);
  CHECK(!job.sampling.frequency_penalty);
  CHECK(!job.sampling.seed);
  CHECK(job.sampling.logit_bias.empty());
  CHECK(!job.max_tokens);
  CHECK(job.stop_strings.empty());
  CHECK(!job.ignore_eos);
  CHECK(job.choices == 1);
  CHECK(job.constraint.kind == mlx_flash::Constraint::Kind::none);
}

TEST_CASE("openai fields: all of sampling arrives") {
  const Job job = read_chat(R"({
      "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125,
      "repetition_penalty": 1.5, "presence_penalty": -1.5,
      "frequency_penalty": 2, "seed": 42, "n": 3, "ignore_eos": true,
      "max_tokens": 100, "stop": ["a", "b"],
      "logit_bias": {"5": -100, "70": 1.5}})");
  CHECK(job.sampling.temperature == 0.5);
  CHECK(job.sampling.top_p == 0.25);
  CHECK(job.sampling.top_k == 40);
  CHECK(job.sampling.min_p == 0.125);
  CHECK(job.sampling.repetition_penalty == 1.5);
  CHECK(job.sampling.presence_penalty == -1.5);
  CHECK(job.sampling.frequency_penalty == 2);
  CHECK(job.sampling.seed == 42);
  REQUIRE(job.sampling.logit_bias.size() == 2);
  CHECK(job.sampling.logit_bias[0].id == 5);
  CHECK(job.sampling.logit_bias[0].bias == -100);
  CHECK(job.sampling.logit_bias[1].id == 70);
  CHECK(job.sampling.logit_bias[1].bias == 1.5f);
  CHECK(job.choices == 3);
  CHECK(job.ignore_eos);
  CHECK(job.max_tokens == 100);
  CHECK(job.stop_strings == std::vector<std::string>{"a", "b"});
}

TEST_CASE("openai fields: numbers are kept to their ranges, ends included") {
  struct Row {
    const char* field;
    const char* good[2];
    const char* bad[2];
  };
  const Row rows[] = {
      {"temperature", {"0", "2"}, {"-0.01", "2.01"}},
      {"top_p", {"0", "1"}, {"-0.01", "1.01"}},
      {"min_p", {"0", "1"}, {"-0.01", "1.01"}},
      {"top_k", {"-1", "2147483647"}, {"-2", "2147483648"}},
      {"repetition_penalty", {"0.01", "100"}, {"0", "101"}},
      {"repeat_penalty", {"0.01", "100"}, {"0", "101"}},
      {"presence_penalty", {"-2", "2"}, {"-2.01", "2.01"}},
      {"frequency_penalty", {"-2", "2"}, {"-2.01", "2.01"}},
      {"seed",
       {"-9223372036854775808", "9223372036854775807"},
       {"9223372036854775808", "1.5"}},
      {"n", {"1", "8"}, {"0", "9"}},
      {"max_tokens", {"1", "1048576"}, {"0", "1048577"}},
      {"max_completion_tokens", {"1", "1048576"}, {"-1", "1048577"}},
  };
  for (const Row& row : rows) {
    const auto with = [&](const std::string& value) {
      return wrong_in_chat(
          "{\"" + std::string(row.field) + "\": " + value + "}");
    };
    CAPTURE(row.field);
    CHECK(with(row.good[0]) == "");
    CHECK(with(row.good[1]) == "");
    CHECK(with("null") == "");
    CHECK(with(row.bad[0]) == row.field);
    CHECK(with(row.bad[1]) == row.field);
    CHECK(with("\"1\"") == row.field);
    CHECK(with("true") == row.field);
    CHECK(with("[1]") == row.field);
  }
}

TEST_CASE("openai fields: all tokens, in vLLM's word and in llama.cpp's") {
  CHECK(read_chat(R"({"top_k": -1})").sampling.top_k == 0);
  CHECK(read_chat(R"({"top_k": 0})").sampling.top_k == 0);
}

TEST_CASE("openai fields: a negative seed is a seed, too") {
  CHECK(read_chat(R"({"seed": -1})").sampling.seed == UINT64_MAX);
}

TEST_CASE("openai fields: two names of a thing must not contradict") {
  CHECK(
      read_chat(R"({"repeat_penalty": 1.25})").sampling.repetition_penalty ==
      1.25);
  CHECK(
      wrong_in_chat(R"({"repeat_penalty": 1.5, "repetition_penalty": 1.5})") ==
      "");
  CHECK(
      wrong_in_chat(R"({"repeat_penalty": 1.5, "repetition_penalty": 1.2})") ==
      "repeat_penalty");
  CHECK(
      read_chat(R"({"max_tokens": 7, "max_completion_tokens": 7})")
          .max_tokens == 7);
  CHECK(read_chat(R"({"max_completion_tokens": 9})").max_tokens == 9);
  CHECK(
      wrong_in_chat(R"({"max_tokens": 7, "max_completion_tokens": 8})") ==
      "max_tokens");
}

TEST_CASE("openai fields: logit_bias names tokens, and is bounded") {
  CHECK(wrong_in_chat(R"({"logit_bias": {}})") == "");
  CHECK(wrong_in_chat(R"({"logit_bias": {"4294967295": 100}})") == "");
  CHECK(wrong_in_chat(R"({"logit_bias": []})") == "logit_bias");
  const auto wrong = [](const std::string& entry) {
    return wrong_in_chat("{\"logit_bias\": {" + entry + "}}");
  };
  CHECK(wrong(R"("5": 100.5)") == "logit_bias.5");
  CHECK(wrong(R"("5": -101)") == "logit_bias.5");
  CHECK(wrong(R"("5": "1")") == "logit_bias.5");
  CHECK(wrong(R"("4294967296": 1)") == "logit_bias.4294967296");
  CHECK(wrong(R"("-1": 1)") == "logit_bias.-1");
  CHECK(wrong(R"("5 ": 1)") == "logit_bias.5 ");
  CHECK(wrong(R"("the": 1)") == "logit_bias.the");
  CHECK(wrong(R"("": 1)") == "logit_bias.");
  ServerLimits limits;
  limits.logit_bias = 2;
  CHECK(wrong_in_chat(R"({"logit_bias": {"1": 1, "2": 1}})", limits) == "");
  CHECK(
      wrong_in_chat(R"({"logit_bias": {"1": 1, "2": 1, "3": 1}})", limits) ==
      "logit_bias");
}

TEST_CASE("openai fields: up to four stop strings") {
  CHECK(read_chat(R"({"stop": "x"})").stop_strings.size() == 1);
  CHECK(read_chat(R"({"stop": []})").stop_strings.empty());
  CHECK(read_chat(R"({"stop": ["1","2","3","4"]})").stop_strings.size() == 4);
  CHECK(wrong_in_chat(R"({"stop": ["1","2","3","4","5"]})") == "stop");
  CHECK(wrong_in_chat(R"({"stop": ""})") == "stop");
  CHECK(wrong_in_chat(R"({"stop": ["a", ""]})") == "stop");
  CHECK(wrong_in_chat(R"({"stop": 5})") == "stop");
  CHECK(wrong_in_chat(R"({"stop": [5]})") == "stop");
  ServerLimits limits;
  limits.stop_string_bytes = 3;
  CHECK(wrong_in_chat(R"({"stop": "abc"})", limits) == "");
  CHECK(wrong_in_chat(R"({"stop": "abcd"})", limits) == "stop");
  CHECK(wrong_in_chat(R"({"stop": ["abcd"]})", limits) == "stop");
  limits.stop_strings = 1;
  CHECK(wrong_in_chat(R"({"stop": ["a", "b"]})", limits) == "stop");
}

TEST_CASE("openai fields: limits of the server bound a request") {
  ServerLimits limits;
  limits.choices = 2;
  limits.max_tokens = 10;
  CHECK(wrong_in_chat(R"({"n": 2, "max_tokens": 10})", limits) == "");
  CHECK(wrong_in_chat(R"({"n": 3})", limits) == "n");
  CHECK(wrong_in_chat(R"({"max_tokens": 11})", limits) == "max_tokens");
}

TEST_CASE("openai fields: how to stream") {
  const auto wishes_of = [](const std::string& changes) {
    ChatWishes wishes;
    read_chat_request(chat_body(changes), {}, wishes);
    return wishes;
  };
  CHECK(!wishes_of("{}").stream);
  CHECK(!wishes_of("{}").include_usage);
  CHECK(!wishes_of("{}").return_progress);
  const auto all = wishes_of(R"({
      "stream": true, "return_progress": true,
      "stream_options": {"include_usage": true, "include_obfuscation": false}
      })");
  CHECK(all.stream);
  CHECK(all.include_usage);
  CHECK(all.return_progress);

  CHECK(wrong_in_chat(R"({"stream": 1})") == "stream");
  CHECK(wrong_in_chat(R"({"return_progress": "yes"})") == "return_progress");
  CHECK(
      wrong_in_chat(R"({"stream_options": {"include_usage": true}})") ==
      "stream_options");
  CHECK(
      wrong_in_chat(R"({"stream": true, "stream_options": true})") ==
      "stream_options");
  CHECK(
      wrong_in_chat(
          R"({"stream": true, "stream_options": {"include_usage": 1}})") ==
      "stream_options.include_usage");
  CHECK(
      wrong_in_chat(
          R"({"stream": true,
              "stream_options": {"include_obfuscation": true}})") ==
      "stream_options.include_obfuscation");
  CHECK(
      wrong_in_chat(R"({"stream": true, "stream_options": {"more": 1}})") ==
      "stream_options.more");
}
