// The way of a job: order, admission, progress, timings. How it can end before
// its end is in generations_end_test.cpp, what answers consist of in
// generation_answers_test.cpp.
#include "server/generations.h"

#include <doctest/doctest.h>

#include <set>

#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Fixture = GenerationsFixture;
using Calls = std::vector<std::string>;

uint64_t token_gaps(const Metrics& metrics) {
  const std::string text = metrics.prometheus_text({}, nullptr, nullptr);
  const std::string name = "mlx_flash_time_between_tokens_seconds_count ";
  return std::stoull(text.substr(text.find(name) + name.size()));
}

} // namespace

TEST_CASE(
    "generations: a sink hears of start, progress, parts and ends in order") {
  Fixture f("Hello you!");
  const auto done = f.answer(Fixture::chat("Hi"));
  CHECK(done->calls == Calls{"start", "progress", "part 0", "end 0", "end"});
  CHECK(done->start.model == "scripted");
  CHECK(done->start.prompt_tokens > 2);
  CHECK(done->start.prompt.empty());
  CHECK(done->choice().content == "Hello you!");
  CHECK(done->choice().parts.size() <= 10);
  CHECK(done->choice().parts[0].tokens.empty());
  REQUIRE(done->choice().end);
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::stop);
  CHECK(done->choice().end->completion_tokens == 10);
  CHECK(done->choice().end->reasoning_tokens == 0);
  CHECK(done->usage->prompt_tokens == done->start.prompt_tokens);
  CHECK(done->usage->completion_tokens == 10);
  CHECK(f.is_idle());
}

TEST_CASE(
    "generations: the prompt is what the template makes of the conversation") {
  Fixture f("ok");
  Job job = Fixture::chat("Hi");
  std::get<Conversation>(job.prompt).thinking = false;
  f.answer(job);
  CHECK(
      f.scripted.requests()[0].prompt ==
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
      "<think>\n\n</think>\n\n");
}

TEST_CASE("generations: texts and tokens are read as they are") {
  Fixture f("ok");
  Job job;
  job.prompt = "Once <|im_end|>";
  CHECK(f.answer(job)->start.prompt_tokens == 6);
  job.prompt = std::vector<TokenId>{'O', kScriptedEnd};
  CHECK(f.answer(job)->start.prompt_tokens == 2);
  CHECK(f.scripted.requests()[0].prompt == "Once <|im_end|>");
  CHECK(f.scripted.requests()[1].tokens == std::vector<TokenId>{'O', 257});
}

TEST_CASE("generations: the answer to a text is content, whatever is in it") {
  const std::string answer =
      "  <think>a</think> <tool_call>\n{\"name\": \"f\"}\n</tool_call> ";
  Fixture f(answer.c_str());
  Job job;
  job.prompt = "text";
  CHECK(f.answer(job)->choice().content == answer);
}

TEST_CASE("generations: parts come as they are made and not at the end") {
  Fixture f("abc");
  f.scripted.hold_steps();
  const auto job = f.start(Fixture::chat("Hi"));
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  f.step(); // the prompt
  CHECK(job->choice().content.empty());
  f.step();
  CHECK(job->choice().content == "a");
  f.step();
  CHECK(job->choice().content == "ab");
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return job->over(); }));
}

TEST_CASE("generations: a model that is not known is told to the sink") {
  Fixture f;
  Job job = Fixture::chat("Hi");
  job.model = "gpt-9";
  const auto done = f.answer(job);
  CHECK(done->calls == Calls{"error"});
  CHECK(done->error->kind() == ApiErrorKind::not_found);
  CHECK(f.is_idle());
}

TEST_CASE("generations: the model that is named answers") {
  Fixture f;
  Job job = Fixture::chat("Hi");
  job.model = "other";
  CHECK(f.answer(job)->start.model == "other");
  job.model = "default"; // an alias
  CHECK(f.answer(job)->start.model == "scripted");
}

TEST_CASE("generations: a model that cannot be loaded fails those who wait") {
  Fixture f;
  f.scripted.fail_loading("[demo] damaged");
  CHECK(f.answer(Fixture::chat("Hi"))->error->kind() == ApiErrorKind::internal);
  f.scripted.fail_loading("");
  CHECK(f.answer(Fixture::chat("Hi"))->usage);
}

TEST_CASE("generations: how long the model stays can be a job's wish") {
  Fixture f;
  Job job = Fixture::chat("Hi");
  job.keep_seconds = 0;
  f.answer(job);
  CHECK(f.until([&] { return f.scripted.engines() == 0; }));
}

TEST_CASE(
    "generations: choices are answers to one prompt, which is read once") {
  Fixture f(ScriptedSetup{[](const ScriptedRequest& request) {
    return "answer " + std::to_string(request.options.sampling.seed);
  }});
  Job job = Fixture::chat(std::string(100, 'x'));
  job.choices = 3;
  job.sampling.seed = 7;
  const auto done = f.answer(job);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(done->choices[i].content == "answer " + std::to_string(7 + i));
    CHECK(done->choices[i].end);
  }
  CHECK(!done->choices[3].end);
  CHECK(done->calls.front() == "start");
  CHECK(done->calls.back() == "end");
  CHECK(done->usage->prompt_tokens == done->start.prompt_tokens);
  CHECK(done->usage->completion_tokens == 24);
  CHECK(done->usage->cached_tokens == 0); // by the one that read it
  CHECK(f.scripted.requests().size() == 3);
  CHECK(f.is_idle());
}

TEST_CASE("generations: further choices start when the prompt has been read") {
  ScriptedSetup setup;
  setup.prefill_chunk = 50;
  Fixture f(setup);
  f.scripted.hold_steps();
  Job job = prompt_of(120);
  job.choices = 3;
  const auto started = f.start(job);
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  f.step(2);
  CHECK(f.scripted.active() == 1);
  f.step(); // the last part
  REQUIRE(f.until([&] { return f.scripted.active() == 3; }));
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return started->over(); }));
  CHECK(f.scripted.requests().size() == 3);
}

TEST_CASE(
    "generations: without a seed each choice of each job has another one") {
  Fixture f;
  Job job = Fixture::chat("Hi");
  job.choices = 2;
  f.answer(job);
  f.answer(job);
  std::set<uint64_t> seeds;
  for (const ScriptedRequest& request : f.scripted.requests()) {
    seeds.insert(request.options.sampling.seed);
  }
  CHECK(seeds.size() == 4);
}

TEST_CASE("generations: progress tells what has been read and was there") {
  ScriptedSetup setup;
  setup.prefill_chunk = 32;
  Fixture f(setup);
  const auto first = f.answer(prompt_of(100));
  const auto& told = first->progress;
  REQUIRE(told.size() >= 2);
  CHECK(told.back().prompt_read == 100);
  CHECK(told.back().prompt_tokens == 100);
  CHECK(told.back().queue_position == 0);
  CHECK(told.back().tokens_per_second > 0);
  CHECK(told.back().seconds_left == 0);
  for (size_t i = 1; i < told.size(); ++i) {
    CHECK(told[i].prompt_read >= told[i - 1].prompt_read);
  }
  const auto second = f.answer(prompt_of(100));
  CHECK(second->progress.back().cached_tokens == 96);
  CHECK(second->usage->cached_tokens == 96);
}

TEST_CASE("generations: who waits for room is told of its place") {
  Fixture f(ScriptedSetup{}, [](ServerOptions& options) {
    options.limits.parallel = 1;
  });
  f.scripted.hold_steps();
  const auto first = f.start(Fixture::chat("1"));
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  const auto second = f.start(Fixture::chat("2"));
  REQUIRE(f.until([&] { return f.scripted.active() == 2; }));
  f.step();
  REQUIRE(!second->progress.empty());
  CHECK(second->progress.back().queue_position == 1);
  REQUIRE(f.generations->list().size() == 2);
  CHECK(f.generations->list()[0].state == "prompt");
  CHECK(f.generations->list()[1].state == "queued");
  CHECK(f.generations->list()[1].progress.queue_position == 1);
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return second->over(); }));
  CHECK(second->progress.back().queue_position == 0);
  CHECK(second->timings.queue_seconds > 0);
}

TEST_CASE("generations: the list says where each request is") {
  Fixture f("abcdef");
  f.scripted.hold_loading();
  f.scripted.hold_steps();
  Job job = Fixture::chat("Hi");
  job.request_id = "request-7";
  f.start(job);
  f.loop.run();
  REQUIRE(f.generations->running() == 1);
  CHECK(f.generations->list()[0].request_id == "request-7");
  CHECK(f.generations->list()[0].seconds >= 0);
  CHECK(f.state_of_first() == "loading");
  f.scripted.release_loading();
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  CHECK(f.state_of_first() == "queued");
  f.step();
  CHECK(f.state_of_first() == "prompt");
  f.step(2);
  CHECK(f.state_of_first() == "decoding");
  CHECK(f.generations->list()[0].completion_tokens == 2);
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return f.generations->running() == 0; }));
  CHECK(f.generations->list().empty());
}

TEST_CASE("generations: when as many wait as may, further jobs are refused") {
  Fixture f(ScriptedSetup{}, [](ServerOptions& options) {
    options.limits.parallel = 1;
    options.limits.queue = 2;
  });
  f.scripted.hold_steps();
  Job two = Fixture::chat("Hi");
  two.choices = 2;
  const auto first = f.start(two);
  const auto second = f.start(Fixture::chat("Hi"));
  try {
    f.start(Fixture::chat("Hi"));
    FAIL("nothing was thrown");
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::rate_limited);
    REQUIRE(error.retry_after_seconds);
    CHECK(*error.retry_after_seconds >= 1);
    CHECK(*error.retry_after_seconds <= 60);
  }
  CHECK(f.generations->running() == 2);
  first.generation->cancel(); // which makes room at once
  f.loop.run();
  const auto third = f.start(two);
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return second->over() && third->over(); }));
  CHECK(third->usage);
  CHECK(f.is_idle());
}

TEST_CASE(
    "generations: more choices than could ever wait are refused for good") {
  Fixture f(ScriptedSetup{}, [](ServerOptions& options) {
    options.limits.parallel = 1;
    options.limits.queue = 1;
  });
  Job job = Fixture::chat("Hi");
  job.choices = 3;
  CHECK_THROWS_WITH_AS(f.start(job), doctest::Contains("n must be"), ApiError);
}

TEST_CASE("generations: workers with too much to do refuse") {
  Fixture f;
  f.workers.refuse = true;
  const auto done = f.answer(Fixture::chat("Hi"));
  CHECK(done->error->kind() == ApiErrorKind::rate_limited);
  CHECK(f.is_idle());
}

TEST_CASE("generations: a prompt that can never fit is refused at once") {
  ScriptedSetup setup;
  setup.context_tokens = 100;
  Fixture f(setup);
  const auto done = f.answer(prompt_of(100));
  REQUIRE(done->error);
  CHECK(done->calls == Calls{"error"});
  CHECK(done->error->kind() == ApiErrorKind::invalid_request);
  CHECK(done->error->code == "context_length_exceeded");
  CHECK(done->error->param == "prompt");
  CHECK(
      std::string(done->error->what()).find("100 tokens") != std::string::npos);
  CHECK(f.scripted.requests().empty());
  CHECK(
      f.answer(Fixture::chat(std::string(100, 'x')))->error->param ==
      "messages");
  // One less fits, with one token of an answer.
  const auto fits = f.answer(prompt_of(99));
  CHECK(fits->usage->completion_tokens == 1);
  CHECK(fits->choice().end->reason == ChoiceEnd::Reason::length);
}

TEST_CASE("generations: the model's own limit counts if it is the lesser") {
  ScriptedSetup setup;
  setup.model_context = 50;
  Fixture f(setup);
  const auto done = f.answer(prompt_of(50));
  REQUIRE(done->error);
  CHECK(
      std::string(done->error->what()).find("the model's own limit") !=
      std::string::npos);
  CHECK(f.answer(prompt_of(49))->usage);
}

TEST_CASE("generations: tokens that the model does not have are named") {
  Fixture f;
  Job job;
  job.prompt = std::vector<TokenId>{1, 2, 262};
  CHECK(f.answer(job)->error->param == "prompt[2]");
  job.prompt = std::vector<TokenId>{};
  CHECK(f.answer(job)->error->param == "prompt");
}

TEST_CASE("generations: a template's complaint is about the messages") {
  Fixture f;
  Job job;
  job.prompt = Conversation{};
  const auto done = f.answer(job);
  CHECK(done->error->kind() == ApiErrorKind::invalid_request);
  CHECK(done->error->param == "messages");
}

TEST_CASE("generations: timings add up, and answers are counted") {
  Fixture f("abcdef");
  const auto done = f.answer(Fixture::chat("Hi"));
  const Timings& t = done->timings;
  CHECK(t.load_seconds > 0);
  CHECK(t.queue_seconds > 0);
  CHECK(t.prompt_seconds > 0);
  CHECK(t.decode_seconds > 0);
  CHECK(
      t.load_seconds + t.queue_seconds + t.prompt_seconds + t.decode_seconds <=
      t.total_seconds);
  const Metrics::Totals totals = f.metrics.totals();
  CHECK(totals.answers == 1);
  CHECK(totals.prompt_tokens == done->usage->prompt_tokens);
  CHECK(totals.completion_tokens == 6);
  CHECK(token_gaps(f.metrics) == 5);
}

TEST_CASE(
    "generations: slow requests are logged, prompts if that is asked for") {
  bool slow = true;
  bool prompts = false;
  SUBCASE("without the prompt") {}
  SUBCASE("with the prompt") {
    prompts = true;
  }
  SUBCASE("only slow ones") {
    slow = false;
    prompts = true;
  }
  Fixture f("abcdef", [&](ServerOptions& options) {
    options.slow_seconds = slow ? 1e-9 : 1000;
    options.log_prompts = prompts;
  });
  const LogCapture log;
  f.answer(Fixture::chat("my secret"));
  const auto has = [&](const std::string& text) {
    return log.text().find(text) != std::string::npos;
  };
  CHECK(has("[slow] request r1 to scripted finished after ") == slow);
  CHECK(has("6 tokens)") == slow);
  CHECK(has("my secret") == (slow && prompts));
}
