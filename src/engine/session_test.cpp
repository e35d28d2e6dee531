// Sessions on the demo model: what callers of the public API rely on.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <mlx/device.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/read_file.h"
#include "engine/engine_core.h"
#include "engine/test_demo.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

EngineOptions demo() {
  return demo_options(24, 192);
}

GenerationOptions greedy(uint64_t tokens) {
  GenerationOptions options;
  options.max_tokens = tokens;
  return options;
}

const std::vector<TokenId> kPrompt{497, 487, 261, 416}; // "Once upon a time"

} // namespace

TEST_CASE("session: holds the prompt and what was read of the answer") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  const auto result = session->generate(kPrompt, greedy(10));
  CHECK(result.tokens.size() == 10);
  CHECK(result.prompt_tokens == kPrompt.size());
  CHECK(result.finish_reason == FinishReason::length);
  CHECK(session->length() == kPrompt.size() + 9);
  CHECK(result.text == engine->text().decode(result.tokens, true));
}

TEST_CASE("session: text arrives in pieces that join to the result") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  std::string joined;
  const auto result =
      session->generate(kPrompt, greedy(20), [&](std::string_view text) {
        joined += text;
        return true;
      });
  CHECK(joined == result.text);
}

TEST_CASE("session: going on equals having never stopped") {
  const auto engine = Engine::open(demo());
  const auto whole = engine->new_session()->generate(kPrompt, greedy(16));
  const auto session = engine->new_session();
  const auto first = session->generate(kPrompt, greedy(8));
  const TokenId last = first.tokens.back();
  const auto second = session->generate({&last, 1}, greedy(8));
  auto tokens = first.tokens;
  tokens.insert(tokens.end(), second.tokens.begin(), second.tokens.end());
  CHECK(tokens == whole.tokens);
}

TEST_CASE("session: rewind forgets, and the same tokens give the same bits") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  const auto logits = session->extend(kPrompt);
  session->extend(std::vector<TokenId>{5, 6, 7});
  session->rewind(2);
  CHECK(session->length() == 2);
  const auto again = session->extend(std::span(kPrompt).subspan(2));
  const size_t vocab = engine->vocab_size();
  CHECK(std::vector<float>(logits.begin() + 2 * vocab, logits.end()) == again);
  CHECK_THROWS_AS(session->rewind(100), Error);
}

TEST_CASE("session: a stop string ends the text before it") {
  const auto engine = Engine::open(demo());
  const auto free = engine->new_session()->generate(kPrompt, greedy(40));
  GenerationOptions options = greedy(40);
  options.stop_strings = {"named"};
  const auto stopped = engine->new_session()->generate(kPrompt, options);
  const size_t at = free.text.find("named");
  REQUIRE(at != std::string::npos);
  CHECK(stopped.text == free.text.substr(0, at));
  CHECK(stopped.finish_reason == FinishReason::stop);
  CHECK(stopped.tokens.size() < free.tokens.size());
}

TEST_CASE("session: a stop token ends the answer and is not part of it") {
  const auto engine = Engine::open(demo());
  const auto free = engine->new_session()->generate(kPrompt, greedy(8));
  GenerationOptions options = greedy(8);
  options.stop_tokens = {free.tokens[3]};
  const auto stopped = engine->new_session()->generate(kPrompt, options);
  CHECK(stopped.tokens.size() <= 3);
  CHECK(stopped.finish_reason == FinishReason::stop);
}

TEST_CASE("session: cancel ends a running answer and keeps the engine usable") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  GenerationOptions options = greedy(150);
  options.ignore_eos = true;
  const auto result =
      session->generate(kPrompt, options, [&](std::string_view) {
        session->cancel();
        return true;
      });
  CHECK(result.finish_reason == FinishReason::cancelled);
  CHECK(result.tokens.size() < 150);
  CHECK(engine->new_session()->generate(kPrompt, greedy(4)).tokens.size() == 4);
}

TEST_CASE("session: returning false from the callback cancels") {
  const auto engine = Engine::open(demo());
  GenerationOptions options = greedy(150);
  options.ignore_eos = true;
  const auto result = engine->new_session()->generate(
      kPrompt, options, [](std::string_view) { return false; });
  CHECK(result.finish_reason == FinishReason::cancelled);
}

TEST_CASE("session: an answer ends where the context does") {
  const auto engine = Engine::open(demo());
  GenerationOptions options = greedy(1000);
  options.ignore_eos = true;
  const auto session = engine->new_session();
  const auto result = session->generate(kPrompt, options);
  CHECK(result.finish_reason == FinishReason::length);
  CHECK(session->length() == 192);
  CHECK_THROWS_WITH_AS(
      session->extend(kPrompt), doctest::Contains("--ctx"), Error);
}

TEST_CASE("session: sampling with a seed repeats, another seed differs") {
  const auto engine = Engine::open(demo());
  GenerationOptions options = greedy(30);
  options.sampling.temperature = 1;
  options.sampling.seed = 7;
  const auto a = engine->new_session()->generate(kPrompt, options);
  const auto b = engine->new_session()->generate(kPrompt, options);
  CHECK(a.tokens == b.tokens);
  options.sampling.seed = 8;
  const auto c = engine->new_session()->generate(kPrompt, options);
  CHECK(a.tokens != c.tokens);
}

TEST_CASE("session: a schema makes the answer JSON of its form") {
  auto with_room = demo();
  with_room.grammars = true;
  const auto engine = Engine::open(with_room);
  GenerationOptions options = greedy(150);
  options.constraint = {
      Constraint::Kind::json_schema,
      R"({"type":"object","properties":{"n":{"type":"boolean"}},)"
      R"("required":["n"],"additionalProperties":false})"};
  const auto result = engine->new_session()->generate(kPrompt, options);
  CHECK(result.finish_reason == FinishReason::stop);
  std::string tight;
  for (const char c : result.text) {
    if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
      tight += c;
    }
  }
  const bool as_asked = tight == "{\"n\":true}" || tight == "{\"n\":false}";
  CHECK_MESSAGE(as_asked, result.text);
}

TEST_CASE("session: a regular expression or a grammar shapes the answer") {
  auto with_room = demo();
  with_room.grammars = true;
  const auto engine = Engine::open(with_room);
  GenerationOptions options = greedy(50);
  options.constraint = {Constraint::Kind::regex, "[0-9]{3}-[ab]"};
  const auto regex = engine->new_session()->generate(kPrompt, options);
  CHECK(regex.finish_reason == FinishReason::stop);
  CHECK(std::regex_match(regex.text, std::regex("[0-9]{3}-[ab]")));
  options.constraint = {
      Constraint::Kind::lark, "start: \"a fox\" | \"a \" /owls?/"};
  const std::string lark =
      engine->new_session()->generate(kPrompt, options).text;
  const bool as_asked = lark == "a fox" || lark == "a owl" || lark == "a owls";
  CHECK_MESSAGE(as_asked, lark);
  options.constraint = {Constraint::Kind::regex, "(unclosed"};
  CHECK_THROWS_AS(engine->new_session()->generate(kPrompt, options), Error);
}

TEST_CASE("session: any end token ends what a grammar lets end") {
  auto with_room = demo();
  with_room.grammars = true;
  const auto engine = Engine::open(with_room);
  REQUIRE(engine->end_tokens().size() == 2);
  GenerationOptions options = greedy(50);
  options.constraint = {Constraint::Kind::regex, "[a-z ]*"};
  for (const TokenId end : engine->end_tokens()) {
    options.sampling.logit_bias = {{end, 100}};
    const auto result = engine->new_session()->generate(kPrompt, options);
    CHECK(result.finish_reason == FinishReason::stop);
    CHECK(result.stop_token == end);
    CHECK(result.text.empty());
  }
  // And none of them what it does not.
  options.constraint = {Constraint::Kind::regex, "[a-z ]{9}"};
  const auto whole = engine->new_session()->generate(kPrompt, options);
  CHECK(whole.text.size() == 9);
}

TEST_CASE("session: more constrained answers than have room wait") {
  EngineOptions options = demo();
  options.grammars = true;
  options.memory = "40MB";
  options.context_tokens = 1024;
  const auto engine = Engine::open(options);
  REQUIRE(engine->plan().constrained_answers == 1);
  GenerationOptions regex = greedy(50);
  regex.constraint = {Constraint::Kind::regex, "[0-9]{9}-[ab]"};
  const auto alone = engine->new_session()->generate(kPrompt, regex);
  std::vector<GenerationResult> together(4);
  std::vector<std::thread> threads;
  for (auto& result : together) {
    threads.emplace_back(
        [&] { result = engine->new_session()->generate(kPrompt, regex); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  for (const auto& result : together) {
    CHECK(result.text == alone.text);
  }
  // One after the other: no step had rows of two.
  CHECK(engine->stats().mixed_steps == 0);
}

TEST_CASE(
    "session: a constraint that the budget has no memory for is refused") {
  std::string properties;
  for (int i = 0; i < 1600; ++i) {
    properties += fmt::format(
        R"({}"p{}":{{"type":["string","object"]}})", i > 0 ? "," : "", i);
  }
  const Constraint large{
      Constraint::Kind::json_schema,
      fmt::format(R"({{"type":"object","properties":{{{}}}}})", properties)};
  EngineOptions options = demo();
  options.grammars = true;
  options.context_tokens = 1024;
  CHECK_NOTHROW(Engine::open(options)->check(large));
  options.memory = "40MB";
  const auto engine = Engine::open(options);
  CHECK_THROWS_AS(engine->check(large), Error);
  CHECK_NOTHROW(engine->check({Constraint::Kind::regex, "[a-z]{9}"}));
}

TEST_CASE("session: a constraint that costs too much is refused") {
  EngineOptions options = demo();
  options.grammars = true;
  options.grammar_cost = 1000;
  const auto engine = Engine::open(options);
  std::string words;
  for (int i = 0; i < 300; ++i) {
    words += fmt::format("{}word{}", i > 0 ? "|" : "", i * 7919);
  }
  const Constraint large{Constraint::Kind::regex, words};
  CHECK_THROWS_AS(engine->check(large), Error);
  GenerationOptions generation = greedy(5);
  generation.constraint = large;
  CHECK_THROWS_AS(engine->new_session()->generate(kPrompt, generation), Error);
  CHECK_NOTHROW(engine->check({Constraint::Kind::regex, "[a-z]{1,5}"}));
}

TEST_CASE("session: a constraint that needs too much memory ends its answer") {
  EngineOptions options = demo();
  options.grammars = true;
  const auto engine = Engine::open(options);
  GenerationOptions generation = greedy(300);
  generation.sampling.temperature = 1;
  // Its states are all subsets of so many places.
  generation.constraint = {Constraint::Kind::regex, "[a-z ]*e[a-z ]{300}"};
  CHECK_THROWS_WITH_AS(
      engine->new_session()->generate(kPrompt, generation),
      doctest::Contains("states"),
      Error);
  CHECK_NOTHROW(engine->new_session()->generate(kPrompt, greedy(5)));
}

TEST_CASE("session: a token that the tokenizer does not know has no text") {
  // The last token of the demo model's vocabulary is taken out of it.
  const TempFolder folder;
  for (const auto& file : std::filesystem::directory_iterator(kDemoModel)) {
    std::filesystem::create_symlink(
        file.path(), folder.path() / file.path().filename());
  }
  const auto path = folder.path() / "tokenizer.json";
  auto tokenizer = nlohmann::ordered_json::parse(read_file(path, 1 << 24));
  auto& model = tokenizer["model"];
  const TokenId last = static_cast<TokenId>(model["vocab"].size() - 1);
  model["merges"].erase(model["merges"].size() - 1);
  for (auto each = model["vocab"].begin(); each != model["vocab"].end();) {
    each = *each == last ? model["vocab"].erase(each) : std::next(each);
  }
  std::filesystem::remove(path);
  folder.write("tokenizer.json", tokenizer.dump());

  EngineOptions options = demo();
  options.model = folder.path();
  const auto engine = Engine::open(options);
  REQUIRE(engine->text().vocab_size() == last);
  GenerationOptions generation = greedy(3);
  generation.sampling.logit_bias = {{last, 1000}};
  const auto result = engine->new_session()->generate(kPrompt, generation);
  CHECK(result.tokens == std::vector<TokenId>(3, last));
  CHECK(result.text.empty());
}

TEST_CASE("session: many at once answer as each would alone") {
  EngineOptions options = demo();
  options.context_tokens = 256; // a page of 64 for each
  const auto engine = Engine::open(options);
  const std::vector<std::vector<TokenId>> prompts{
      kPrompt, {1, 2, 3}, {500, 600, 700, 800, 900}, {42}};
  std::vector<std::vector<TokenId>> alone;
  for (const auto& prompt : prompts) {
    alone.push_back(engine->new_session()->generate(prompt, greedy(12)).tokens);
  }
  std::vector<std::vector<TokenId>> together(prompts.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < prompts.size(); ++i) {
    threads.emplace_back([&, i] {
      together[i] =
          engine->new_session()->generate(prompts[i], greedy(12)).tokens;
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  CHECK(together == alone);
}

TEST_CASE("session: bad tokens and prompts are refused by name") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  const std::vector<TokenId> outside{4096};
  CHECK_THROWS_WITH_AS(
      session->extend(outside), doctest::Contains("4096"), Error);
  CHECK_THROWS_WITH_AS(
      session->generate({}, greedy(1)), doctest::Contains("empty"), Error);
  CHECK_THROWS_AS(session->generate(kPrompt, greedy(0)), Error);
  CHECK(session->length() == 0);
}

TEST_CASE("session: scores are log-probabilities of the logits") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  const auto logits = session->extend(kPrompt);
  const auto score = engine->new_session()->score(kPrompt, 2);
  REQUIRE(score.logprobs.size() == kPrompt.size() - 1);
  REQUIRE(score.top.size() == score.logprobs.size());
  const size_t vocab = engine->vocab_size();
  for (size_t i = 0; i + 1 < kPrompt.size(); ++i) {
    double sum = 0;
    double best = -1e30;
    for (size_t v = 0; v < vocab; ++v) {
      sum += std::exp(double{logits[i * vocab + v]});
      best = std::max(best, double{logits[i * vocab + v]});
    }
    const double expected =
        double{logits[i * vocab + kPrompt[i + 1]]} - std::log(sum);
    CHECK(score.logprobs[i] == doctest::Approx(expected));
    CHECK(score.top[i][0].logprob == doctest::Approx(best - std::log(sum)));
  }
}

TEST_CASE("engine: sessions are bounded in number") {
  const auto engine = Engine::open(demo());
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 64; ++i) {
    sessions.push_back(engine->new_session());
  }
  CHECK_THROWS_AS(engine->new_session(), Error);
  sessions.pop_back();
  CHECK(engine->new_session() != nullptr);
}

TEST_CASE("engine: a budget that is too small names one that works") {
  EngineOptions options = demo();
  options.slots.reset();
  options.memory = "1MB";
  try {
    Engine::open(options);
    FAIL("opened");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_budget);
  }
  options.memory = std::to_string(make_plan(options).smallest_budget_bytes);
  const auto engine = Engine::open(options);
  CHECK(engine->new_session()->generate(kPrompt, greedy(4)).tokens.size() == 4);
  CHECK(engine->stats().slots == 4);
}

TEST_CASE("engine: a GPU that is not there is refused, not ignored") {
  EngineOptions options = demo();
  options.device = Device::gpu;
  if (!mlx::core::is_available(mlx::core::Device::gpu)) {
    CHECK_THROWS_WITH_AS(
        Engine::open(options), doctest::Contains("--device cpu"), Error);
  }
}

TEST_CASE("engine: the counters include an answer's last step") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  uint64_t decoded = 0;
  for (int i = 0; i < 20; ++i) {
    session->rewind(0);
    session->generate(kPrompt, greedy(5));
    decoded += 4; // the first token comes with the prompt
    CHECK(engine->stats().decode_tokens == decoded);
    CHECK(engine->stats().prefill_tokens == (i + 1) * kPrompt.size());
  }
}

TEST_CASE("engine: a step reads an expert once, for all rows that chose it") {
  std::vector<TokenId> prompt;
  for (TokenId i = 0; i < 64; ++i) {
    prompt.push_back(31 * i + 7);
  }
  const auto stats_with = [&](uint64_t slots) {
    EngineOptions options = demo();
    options.prefill_chunk = 64;
    options.slots = slots;
    const auto engine = Engine::open(options);
    engine->new_session()->generate(prompt, greedy(1));
    return engine->stats();
  };
  const Stats few = stats_with(4);
  const Stats enough = stats_with(make_plan(demo()).experts);
  CHECK(few.steps == 1);
  CHECK(few.expert_misses > 4 * few.slots); // in many waves
  CHECK(few.expert_misses == enough.expert_misses);
  CHECK(few.expert_hits == enough.expert_hits);
  CHECK(few.bytes_read_demand == enough.bytes_read_demand);
}

TEST_CASE("engine: a step that only decodes reads no file") {
  const auto read_calls = [] {
    uint64_t calls = 0;
    std::ifstream file("/proc/self/io");
    for (std::string name; file >> name && name != "syscr:";) {
    }
    file >> calls;
    return calls;
  };
  EngineOptions options = demo();
  options.slots.reset();
  options.resident = true;
  const auto engine = Engine::open(options);
  const auto session = engine->new_session();
  session->generate(kPrompt, greedy(1));
  const uint64_t before = read_calls();
  session->rewind(kPrompt.size() - 1);
  GenerationOptions many = greedy(100);
  many.ignore_eos = true;
  session->generate(std::vector<TokenId>{416}, many);
  CHECK(engine->stats().decode_tokens == 99);
  CHECK(read_calls() - before < 20);
}

TEST_CASE("engine: seconds are those in which there was work") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  const auto seconds_of_answer = [&] {
    session->rewind(0);
    const double begin = now_seconds();
    session->generate(kPrompt, greedy(100));
    return now_seconds() - begin;
  };
  double worked = seconds_of_answer();
  std::this_thread::sleep_for(std::chrono::duration<double>(2 * worked));
  worked += seconds_of_answer();
  const Stats stats = engine->stats();
  CHECK(stats.prefill_seconds > 0);
  CHECK(stats.prefill_seconds + stats.decode_seconds <= worked);
  CHECK(stats.prefill_seconds + stats.decode_seconds > worked / 2);
}

TEST_CASE("session: what a callback throws ends its call and nothing else") {
  const auto engine = Engine::open(demo());
  const auto other = engine->new_session();
  {
    const auto session = engine->new_session();
    const auto throwing = [](std::string_view) -> bool {
      throw std::runtime_error("mine");
    };
    CHECK_THROWS_WITH_AS(
        session->generate(kPrompt, greedy(100), throwing),
        "mine",
        std::runtime_error);
    // The session goes on where it was stopped.
    session->rewind(0);
    CHECK(session->extend(kPrompt) == other->extend(kPrompt));
  }
  CHECK(engine->new_session()->extend(kPrompt).size() > 0);
}

TEST_CASE("session: a call from within its own callback is refused") {
  const auto engine = Engine::open(demo());
  const auto session = engine->new_session();
  int refused = 0;
  const auto result =
      session->generate(kPrompt, greedy(8), [&](std::string_view) {
        try {
          session->extend(kPrompt);
        } catch (const Error& error) {
          refused += error.code() == ErrorCode::invalid_argument ? 1 : 0;
        }
        return true;
      });
  CHECK(refused > 0);
  CHECK(result.tokens.size() == 8);
}

TEST_CASE("session: many that cannot be opened take no one's place") {
  const auto engine = Engine::open(demo());
  std::vector<std::unique_ptr<Session>> open;
  for (int i = 0; i < 64; ++i) {
    open.push_back(engine->new_session());
  }
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_AS(engine->new_session(), Error);
  }
  open.pop_back();
  open.push_back(engine->new_session());
}

TEST_CASE("engine: closing cancels what is running") {
  auto options = demo();
  options.context_tokens = 1024;
  auto engine = Engine::open(options);
  auto session = engine->new_session();
  GenerationResult result;
  std::atomic<bool> started = false;
  std::thread user([&] {
    auto long_answer = greedy(1000);
    long_answer.ignore_eos = true;
    result = session->generate(kPrompt, long_answer, [&](std::string_view) {
      started = true;
      return true;
    });
  });
  while (!started) {
    std::this_thread::yield();
  }
  engine.reset();
  user.join();
  CHECK(result.finish_reason == FinishReason::cancelled);
  CHECK(result.tokens.size() < 1000);
  // What is left of the session says so, and can be destroyed.
  CHECK_THROWS_WITH_AS(
      session->generate(kPrompt, greedy(1)),
      doctest::Contains("its engine has been closed"),
      Error);
}

TEST_CASE("invariant 7: options that cannot be honoured are refused by name") {
  const auto refused = [](auto change, const char* name) {
    auto options = demo();
    change(options);
    CAPTURE(name);
    try {
      make_plan(options);
      FAIL("accepted");
    } catch (const Error& error) {
      CAPTURE(error.what());
      CHECK(error.code() == ErrorCode::invalid_argument);
      CHECK(std::string(error.what()).find(name) != std::string::npos);
    }
  };
  refused([](auto& o) { o.prefill_chunk = 1ull << 60; }, "prefill_chunk");
  refused([](auto& o) { o.context_tokens = 1ull << 60; }, "context_tokens");
  refused([](auto& o) { o.context_wanted = 1ull << 60; }, "context_wanted");
  refused([](auto& o) { o.result_bytes = 1ull << 60; }, "result_bytes");
  refused([](auto& o) { o.slots = 1ull << 60; }, "slots");
  refused([](auto& o) { o.threads = -5; }, "threads");
  refused([](auto& o) { o.policy = "nonsense"; }, "policy");
  refused([](auto& o) { o.reader = "nonsense"; }, "reader");
  refused([](auto& o) { o.resident = true; }, "resident");
}

TEST_CASE("engine: more than the machine has is refused before it is taken") {
  auto options = demo();
  options.memory = "900TB";
  options.context_tokens = 1u << 30;
  CHECK_THROWS_WITH_AS(Engine::open(options), doctest::Contains("only"), Error);
}

TEST_CASE("engine: the context is no more than the model's own limit") {
  auto options = demo();
  options.context_tokens = 0;
  options.context_wanted = 5000;
  const auto engine = Engine::open(options);
  CHECK(engine->plan().context_tokens == 1024);
  CHECK(engine->plan().model_context == 1024);
  const std::vector<TokenId> long_prompt(1500, 261);
  CHECK_THROWS_WITH_AS(
      engine->new_session()->extend(long_prompt),
      doctest::Contains("the model's own limit"),
      Error);
}

TEST_CASE("engine: what has no memory set aside is refused") {
  const auto engine = Engine::open(demo());
  const std::vector<TokenId> text(150, 261);
  CHECK(engine->new_session()->score(text, 20).top.size() == 149);
  CHECK_THROWS_WITH_AS(
      engine->new_session()->score(text, 1000),
      doctest::Contains("set aside for results"),
      Error);
  auto constrained = greedy(4);
  constrained.constraint = {Constraint::Kind::json_schema, "{}"};
  CHECK_THROWS_WITH_AS(
      engine->new_session()->generate(kPrompt, constrained),
      doctest::Contains("without room for schemas"),
      Error);
  auto options = demo();
  options.result_bytes = 150 * 1000 * sizeof(TokenLogprob);
  CHECK(
      make_plan(options).planned_bytes >
      make_plan(demo()).planned_bytes + 2'000'000);
  CHECK(
      Engine::open(options)->new_session()->score(text, 1000).top[0].size() ==
      1000);
}
