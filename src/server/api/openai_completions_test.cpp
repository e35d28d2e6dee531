#include "server/api/openai_completions.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

namespace {

struct Read {
  std::vector<Job> jobs;
  CompletionWishes wishes;
};

Read read(const std::string& changes, const ServerLimits& limits = {}) {
  Read all;
  all.jobs = read_completion_request(
      changed(R"({"model": "demo", "prompt": "Once"})", changes),
      limits,
      all.wishes);
  return all;
}

std::string wrong(const std::string& changes, const ServerLimits& limits = {}) {
  return wrong_field([&] { read(changes, limits); });
}

std::string text_of(const Job& job) {
  return std::get<std::string>(job.prompt);
}

std::vector<TokenId> tokens_of(const Job& job) {
  return std::get<std::vector<TokenId>>(job.prompt);
}

} // namespace

TEST_CASE("openai completions: each form of prompt") {
  CHECK(text_of(read("{}").jobs.at(0)) == "Once");
  const Read texts = read(R"({"prompt": ["a", "b"]})");
  REQUIRE(texts.jobs.size() == 2);
  CHECK(text_of(texts.jobs[0]) == "a");
  CHECK(text_of(texts.jobs[1]) == "b");
  const Read ids = read(R"({"prompt": [1, 4294967295]})");
  REQUIRE(ids.jobs.size() == 1);
  CHECK(tokens_of(ids.jobs[0]) == std::vector<TokenId>{1, UINT32_MAX});
  const Read lists = read(R"({"prompt": [[1, 2], [3]]})");
  REQUIRE(lists.jobs.size() == 2);
  CHECK(tokens_of(lists.jobs[0]) == std::vector<TokenId>{1, 2});
  CHECK(tokens_of(lists.jobs[1]) == std::vector<TokenId>{3});
}

TEST_CASE("openai completions: prompts that are none") {
  CHECK(wrong(R"({"prompt": null})") == "prompt");
  CHECK(wrong(R"({"prompt": 5})") == "prompt");
  CHECK(wrong(R"({"prompt": {}})") == "prompt");
  CHECK(wrong(R"({"prompt": []})") == "prompt");
  CHECK(wrong(R"({"prompt": [[]]})") == "prompt[0]");
  CHECK(wrong(R"({"prompt": [1, "a"]})") == "prompt");
  CHECK(wrong(R"({"prompt": ["a", 1]})") == "prompt[1]");
  CHECK(wrong(R"({"prompt": ["a", null]})") == "prompt[1]");
  CHECK(wrong(R"({"prompt": [[1], [-1]]})") == "prompt[1]");
  CHECK(wrong(R"({"prompt": [4294967296]})") == "prompt");
  CHECK(wrong(R"({"prompt": [1.5]})") == "prompt");
  CHECK(wrong(R"({"prompt": [[[1]]]})") == "prompt[0]");
}

TEST_CASE("openai completions: all answers of a request are bounded") {
  ServerLimits limits;
  limits.choices = 4;
  CHECK(wrong(R"({"prompt": ["a", "b"], "n": 2})", limits) == "");
  CHECK(wrong(R"({"prompt": ["a", "b"], "n": 3})", limits) == "prompt");
  CHECK(wrong(R"({"prompt": ["a", "b", "c", "d", "e"]})", limits) == "prompt");
  CHECK(wrong(R"({"n": 5})", limits) == "n");
}

TEST_CASE("openai completions: fields arrive, for each prompt") {
  const Read all = read(R"({
      "prompt": ["a", "b"], "n": 2, "best_of": 2, "max_tokens": 5,
      "temperature": 1, "seed": 3, "stop": "x", "guided_regex": "a+",
      "stream": true, "stream_options": {"include_usage": true},
      "user": "u"})");
  REQUIRE(all.jobs.size() == 2);
  for (const Job& job : all.jobs) {
    CHECK(job.model == "demo");
    CHECK(job.choices == 2);
    CHECK(job.max_tokens == 5);
    CHECK(job.sampling.temperature == 1);
    CHECK(job.sampling.seed == 3);
    CHECK(job.stop_strings.size() == 1);
    CHECK(job.constraint.kind == Constraint::Kind::regex);
  }
  CHECK(all.wishes.choices == 2);
  CHECK(all.wishes.stream.stream);
  CHECK(all.wishes.stream.include_usage);
  CHECK(!all.wishes.echo);
  CHECK(!all.wishes.logprobs);
}

TEST_CASE("openai completions: sixteen tokens unless told otherwise") {
  CHECK(read("{}").jobs[0].max_tokens == 16);
}

TEST_CASE("openai completions: none at all only to read the prompt") {
  CHECK(wrong(R"({"max_tokens": 0})") == "max_tokens");
  CHECK(read(R"({"max_tokens": 0, "echo": true})").jobs[0].max_tokens == 0);
}

TEST_CASE("openai completions: log-probabilities of up to twenty tokens") {
  const Read some = read(R"({"logprobs": 20})");
  CHECK(some.wishes.logprobs);
  CHECK(some.jobs[0].logprobs);
  CHECK(some.jobs[0].top_logprobs == 20);
  CHECK(read(R"({"logprobs": 0})").jobs[0].logprobs);
  CHECK(!read(R"({"logprobs": null})").jobs[0].logprobs);
  CHECK(wrong(R"({"logprobs": 21})") == "logprobs");
  CHECK(wrong(R"({"logprobs": -1})") == "logprobs");
  CHECK(wrong(R"({"logprobs": true})") == "logprobs");
}

TEST_CASE("openai completions: a prompt is scored when its tokens are shown") {
  CHECK(!read(R"({"logprobs": 1})").jobs[0].score_prompt);
  CHECK(!read(R"({"echo": true})").jobs[0].score_prompt);
  CHECK(read(R"({"echo": true, "logprobs": 1})").jobs[0].score_prompt);
  CHECK(read(R"({"echo": true, "prompt": [1, 2]})").jobs[0].score_prompt);
}

TEST_CASE("openai completions: what cannot be honoured is named") {
  CHECK(wrong(R"({"best_of": 1})") == "");
  CHECK(wrong(R"({"best_of": 2})") == "best_of");
  CHECK(wrong(R"({"best_of": 2, "n": 3})") == "best_of");
  CHECK(wrong(R"({"suffix": ""})") == "");
  CHECK(wrong(R"({"suffix": "end"})") == "suffix");
  CHECK(wrong(R"({"messages": []})") == "messages");
  CHECK(wrong(R"({"tools": []})") == "tools");
  CHECK(wrong(R"({"top_logprobs": 1})") == "top_logprobs");
  CHECK(wrong(R"({"echo": 1})") == "echo");
}
