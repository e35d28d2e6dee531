#include "server/api/openai_chat.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"

using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

TEST_CASE("openai chat: the model, or the one that is loaded") {
  CHECK(read_chat("{}").model == "demo");
  CHECK(read_chat(R"({"model": null})").model == "");
  CHECK(wrong_in_chat(R"({"model": 1})") == "model");
  CHECK(
      wrong_in_chat("{\"model\": \"" + std::string(257, 'm') + "\"}") ==
      "model");
}

TEST_CASE("openai chat: log-probabilities of up to twenty tokens") {
  CHECK(!read_chat("{}").logprobs);
  const Job job = read_chat(R"({"logprobs": true, "top_logprobs": 20})");
  CHECK(job.logprobs);
  CHECK(job.top_logprobs == 20);
  CHECK(read_chat(R"({"logprobs": true})").top_logprobs == 0);
  CHECK(wrong_in_chat(R"({"logprobs": 5})") == "logprobs");
  CHECK(
      wrong_in_chat(R"({"logprobs": true, "top_logprobs": 21})") ==
      "top_logprobs");
  CHECK(
      wrong_in_chat(R"({"logprobs": true, "top_logprobs": -1})") ==
      "top_logprobs");
  CHECK(wrong_in_chat(R"({"top_logprobs": 3})") == "top_logprobs");
  CHECK(wrong_in_chat(R"({"top_logprobs": 0})") == "");
}

TEST_CASE("openai chat: whether the model thinks first") {
  const auto thinking_of = [](const std::string& changes) {
    return conversation_of(read_chat(changes)).thinking;
  };
  CHECK(thinking_of("{}") == std::nullopt);
  CHECK(thinking_of(R"({"enable_thinking": false})") == false);
  CHECK(
      thinking_of(R"({"chat_template_kwargs": {"enable_thinking": true}})") ==
      true);
  CHECK(thinking_of(R"({"reasoning_effort": "none"})") == false);
  CHECK(thinking_of(R"({"reasoning_effort": "minimal"})") == false);
  for (const char* effort : {"low", "medium", "high", "xhigh", "max"}) {
    CHECK(
        thinking_of(
            "{\"reasoning_effort\": \"" + std::string(effort) + "\"}") == true);
  }
  CHECK(wrong_in_chat(R"({"reasoning_effort": "huge"})") == "reasoning_effort");
  CHECK(wrong_in_chat(R"({"enable_thinking": 1})") == "enable_thinking");
}

TEST_CASE("openai chat: fields must not contradict about thinking") {
  CHECK(
      wrong_in_chat(
          R"({"enable_thinking": true, "reasoning_effort": "none"})") ==
      "reasoning_effort");
  CHECK(
      wrong_in_chat(
          R"({"enable_thinking": false, "reasoning_effort": "none"})") == "");
  CHECK(
      wrong_in_chat(
          R"({"enable_thinking": false,
              "chat_template_kwargs": {"enable_thinking": true}})") ==
      "enable_thinking");
}

TEST_CASE("openai chat: values for the template") {
  const auto values_of = [](const std::string& changes) {
    return conversation_of(read_chat(changes)).template_values;
  };
  CHECK(values_of("{}") == "");
  CHECK(
      values_of(R"({"chat_template_kwargs": {"enable_thinking": true}})") ==
      "");
  CHECK(
      values_of(
          R"({"chat_template_kwargs": {"a": [1], "enable_thinking": true},
              "reasoning_effort": "low"})") ==
      R"({"a":[1],"reasoning_effort":"low"})");
  CHECK(
      wrong_in_chat(R"({"chat_template_kwargs": []})") ==
      "chat_template_kwargs");
  CHECK(
      wrong_in_chat(R"({"chat_template_kwargs": {"messages": []}})") ==
      "chat_template_kwargs.messages");
  CHECK(
      wrong_in_chat(R"({"chat_template_kwargs": {"tools": []}})") ==
      "chat_template_kwargs.tools");
  ServerLimits limits;
  limits.schema_bytes = 8;
  CHECK(
      wrong_in_chat(R"({"chat_template_kwargs": {"a": 123}})", limits) ==
      "chat_template_kwargs");
}

TEST_CASE("openai chat: fields that change nothing are accepted") {
  CHECK(wrong_in_chat(R"({
          "user": "u", "metadata": {"a": "b"}, "store": true,
          "service_tier": "flex", "prompt_cache_key": "k",
          "prompt_cache_retention": "24h",
          "prompt_cache_options": {"mode": "implicit"},
          "safety_identifier": "s",
          "prediction": {"type": "content", "content": "x"},
          "modalities": ["text"], "verbosity": "medium"})") == "");
}

TEST_CASE("openai chat: what cannot be honoured is named") {
  CHECK(wrong_in_chat(R"({"modalities": ["text", "audio"]})") == "modalities");
  CHECK(wrong_in_chat(R"({"audio": {"voice": "v"}})") == "audio");
  CHECK(wrong_in_chat(R"({"web_search_options": {}})") == "web_search_options");
  CHECK(wrong_in_chat(R"({"moderation": {"model": "m"}})") == "moderation");
  CHECK(wrong_in_chat(R"({"verbosity": "low"})") == "verbosity");
  CHECK(wrong_in_chat(R"({"mirostat": 2})") == "mirostat");
  CHECK(wrong_in_chat(R"({"temprature": 1})") == "temprature");
  CHECK(wrong_in_chat(R"({"best_of": 1})") == "best_of");
}
