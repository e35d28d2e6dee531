// Answers that nobody waits for: what a listener hears of them.
#include <doctest/doctest.h>

#include <thread>

#include "base/error.h"
#include "engine/test_demo.h"
#include "engine/test_listener.h"
#include "mlx_flash/engine.h"

using namespace mlx_flash;

namespace {

const std::vector<TokenId> kPrompt{497, 487, 261, 416}; // "Once upon a time"

GenerationOptions greedy(uint64_t tokens) {
  GenerationOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  return options;
}

using Recorder = RecordingListener;

} // namespace

TEST_CASE("session: an answer that is started is the one that is waited for") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto waited = engine->new_session()->generate(kPrompt, greedy(20));
  const auto session = engine->new_session();
  const auto heard = std::make_shared<Recorder>();
  session->start(kPrompt, greedy(20), heard);
  heard->wait_for_end();
  CHECK(!heard->error);
  CHECK(heard->result.tokens == waited.tokens);
  CHECK(heard->result.text == waited.text);
  CHECK(heard->tokens == waited.tokens);
  CHECK(heard->text == waited.text);
  CHECK(session->length() == kPrompt.size() + 19);
}

TEST_CASE("session: a started answer keeps the session busy until its end") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto session = engine->new_session();
  const auto heard = std::make_shared<Recorder>();
  session->start(kPrompt, greedy(100), heard);
  CHECK_THROWS_WITH_AS(
      session->extend(kPrompt), doctest::Contains("busy"), Error);
  session->cancel();
  heard->wait_for_end();
  CHECK(heard->result.finish_reason == FinishReason::cancelled);
  CHECK(session->extend(kPrompt, Session::Logits::last).size() > 0);
}

TEST_CASE("session: the next answer can be started when one has ended") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto session = engine->new_session();
  const auto first = std::make_shared<Recorder>();
  const auto second = std::make_shared<Recorder>();
  first->at_end = [&] { session->start({261}, greedy(4), second); };
  session->start(kPrompt, greedy(4), first);
  second->wait_for_end();
  CHECK(second->result.tokens.size() == 4);
  CHECK(session->length() == kPrompt.size() + 3 + 1 + 3);
}

TEST_CASE("session: one that is destroyed ends its answer") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto heard = std::make_shared<Recorder>();
  {
    const auto session = engine->new_session();
    session->start(kPrompt, greedy(150), heard);
    heard->wait_for_tokens(2);
  }
  heard->wait_for_end();
  REQUIRE(heard->error);
  CHECK(heard->code() == ErrorCode::cancelled);
  CHECK(heard->tokens.size() < 150);
}

TEST_CASE("session: an engine that is closed ends the answers of all") {
  auto engine = Engine::open(demo_options(24, 192));
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::shared_ptr<Recorder>> heard;
  for (int i = 0; i < 3; ++i) {
    sessions.push_back(engine->new_session());
    heard.push_back(std::make_shared<Recorder>());
    sessions.back()->start(kPrompt, greedy(150), heard.back());
  }
  heard[0]->wait_for_tokens(1);
  engine.reset();
  for (const auto& each : heard) {
    CHECK(each->ended);
    CHECK(each->result.finish_reason == FinishReason::cancelled);
  }
}

TEST_CASE("session: what cannot be started says so at its end or at once") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto session = engine->new_session();
  const auto heard = std::make_shared<Recorder>();
  CHECK_THROWS_AS(session->start(kPrompt, greedy(0), heard), Error);
  session->start({1u << 30}, greedy(4), heard);
  heard->wait_for_end();
  REQUIRE(heard->error);
  CHECK(heard->code() == ErrorCode::invalid_argument);
  CHECK(heard->tokens.empty());
}

TEST_CASE(
    "session: log-probabilities are those of a score, whatever is sampled") {
  const auto engine = Engine::open(demo_options(24, 192));
  GenerationOptions options = greedy(12);
  options.logprobs = true;
  options.top_logprobs = 3;
  options.sampling = {.temperature = 2, .presence_penalty = 1, .seed = 5};
  options.sampling.logit_bias = {{261, -100}};
  const auto heard = std::make_shared<Recorder>();
  const auto session = engine->new_session();
  session->start(kPrompt, options, heard);
  heard->wait_for_end();
  std::vector<TokenId> all = kPrompt;
  all.insert(all.end(), heard->tokens.begin(), heard->tokens.end());
  const auto score = engine->new_session()->score(all, 3);
  REQUIRE(heard->chosen.size() == 12);
  for (size_t i = 0; i < 12; ++i) {
    const ChosenToken& token = heard->chosen[i];
    const size_t at = kPrompt.size() - 1 + i;
    CHECK(token.logprob == score.logprobs[at]);
    REQUIRE(token.top.size() == 3);
    for (size_t t = 0; t < 3; ++t) {
      CHECK(token.top[t].id == score.top[at][t].id);
      CHECK(token.top[t].logprob == score.top[at][t].logprob);
    }
  }
}

TEST_CASE(
    "session: without a request for them there are no log-probabilities") {
  const auto engine = Engine::open(demo_options(24, 192));
  const auto heard = std::make_shared<Recorder>();
  const auto session = engine->new_session();
  session->start(kPrompt, greedy(2), heard);
  heard->wait_for_end();
  CHECK(heard->chosen[0].logprob == 0);
  CHECK(heard->chosen[0].top.empty());
  GenerationOptions options = greedy(2);
  options.top_logprobs = 3;
  CHECK_THROWS_WITH_AS(
      session->start(kPrompt, options, heard),
      doctest::Contains("top_logprobs"),
      Error);
}
