// Who takes part in steps, and what is kept for those who come later.
#include <doctest/doctest.h>

#include "base/test_wait_for.h"
#include "engine/test_answers.h"

using namespace mlx_flash;

TEST_CASE("invariant 1: a prompt that begins like another has the same bits") {
  const auto prompt = some_tokens(1, 3 * kPage + 20);
  auto longer = prompt;
  longer.resize(2 * kPage + 7);
  for (const TokenId id : some_tokens(2, 30)) {
    longer.push_back(id);
  }
  const auto engine = Engine::open(keeping(1024));
  const auto run = [&](const std::vector<TokenId>& tokens, uint64_t cached) {
    Answer answer(*engine, tokens, explained(12));
    answer.listener->wait_for_end();
    REQUIRE(answer.listener->error == nullptr);
    CHECK(answer.listener->result.cached_tokens == cached);
    CHECK(bits(*answer.listener) == alone(tokens, explained(12)));
  };
  run(prompt, 0);
  run(prompt, 3 * kPage);
  run(longer, 2 * kPage);
  // One token is always read, for its logits.
  run({prompt.begin(), prompt.begin() + 2 * kPage}, kPage);
  CHECK(engine->stats().cached_tokens == 6 * kPage);
}

TEST_CASE("prefix cache: what was generated is kept with its prompt") {
  const auto engine = Engine::open(keeping(1024));
  auto prompt = some_tokens(3, 50);
  {
    Answer answer(*engine, prompt, explained(2 * kPage));
    answer.listener->wait_for_end();
    for (const TokenId id : answer.listener->result.tokens) {
      prompt.push_back(id);
    }
  }
  Answer next(*engine, prompt, explained(3));
  next.listener->wait_for_end();
  CHECK(next.listener->result.cached_tokens == 2 * kPage);
  CHECK(bits(*next.listener) == alone(prompt, explained(3)));
}

TEST_CASE("prefix cache: gives way to what is needed") {
  const auto engine = Engine::open(keeping(4 * kPage));
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Answer answer(*engine, some_tokens(seed, 3 * kPage), explained(4));
    answer.listener->wait_for_end();
    CHECK(answer.listener->error == nullptr);
    CHECK(answer.listener->tokens.size() == 4);
  }
  CHECK(engine->stats().kv_pages == 4);
  CHECK(engine->stats().kv_pages_used <= 4);
}

TEST_CASE("prefix cache: without it nothing is kept") {
  const auto engine = Engine::open(demo_options(24, 1024));
  const auto prompt = some_tokens(1, 3 * kPage);
  for (int i = 0; i < 2; ++i) {
    Answer answer(*engine, prompt, explained(2));
    answer.listener->wait_for_end();
    CHECK(answer.listener->result.cached_tokens == 0);
  }
}

TEST_CASE("admission: more than fit wait, and answer as they would alone") {
  for (const bool keeps : {false, true}) {
    EngineOptions options = keeping(5 * kPage);
    options.prefix_cache = keeps;
    const auto engine = Engine::open(options);
    std::vector<Answer> answers;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      answers.emplace_back(
          *engine, some_tokens(seed, 50 + 5 * seed), explained(100));
    }
    for (uint64_t seed = 0; seed < 6; ++seed) {
      auto& listener = *answers[seed].listener;
      listener.wait_for_end();
      REQUIRE(listener.error == nullptr);
      CHECK(
          bits(listener) ==
          alone(some_tokens(seed, 50 + 5 * seed), explained(100)));
      answers[seed].session = nullptr; // its room is for the others
    }
    // They did not all have room at once for what they generated.
    CHECK(engine->stats().preemptions > 0);
    uint64_t cached = 0;
    for (const Answer& each : answers) {
      cached += each.listener->result.cached_tokens;
    }
    CHECK(engine->stats().cached_tokens == cached);
  }
}

TEST_CASE("admission: those who wait hear of their place in the queue") {
  EngineOptions options = keeping(1024);
  options.parallel = 1;
  const auto engine = Engine::open(options);
  Answer first(*engine, some_tokens(1, 100), explained(300));
  first.listener->wait_for_tokens(1);
  Answer second(*engine, some_tokens(2, 100), explained(2));
  Answer third(*engine, some_tokens(3, 100), explained(2));
  third.listener->wait_for_end();
  std::vector<uint64_t> places;
  for (const GenerationProgress& each : third.listener->progress) {
    if (places.empty() || places.back() != each.queue_position) {
      places.push_back(each.queue_position);
    }
  }
  CHECK(places == std::vector<uint64_t>{2, 1, 0});
  CHECK(third.listener->progress.back().prompt_read == 100);
  CHECK(third.listener->progress.back().prompt_tokens == 100);
  CHECK(first.listener->tokens.size() == 300);
}

TEST_CASE("admission: a request that waits can be cancelled") {
  EngineOptions options = keeping(1024);
  options.parallel = 1;
  const auto engine = Engine::open(options);
  Answer first(*engine, some_tokens(1, 100), explained(400));
  first.listener->wait_for_tokens(1);
  Answer second(*engine, some_tokens(2, 100), explained(2));
  second.session->cancel();
  second.listener->wait_for_end();
  CHECK(second.listener->result.finish_reason == FinishReason::cancelled);
  CHECK(second.listener->tokens.empty());
  CHECK(first.listener->tokens.size() < 400); // nobody waited for its end
}

TEST_CASE(
    "admission: sessions that are closed before their turn leave nothing") {
  const auto engine = Engine::open(keeping(1024));
  Answer busy(*engine, some_tokens(1, 100), explained(200));
  busy.listener->wait_for_tokens(1);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    // It begins and is gone while a step runs.
    const Answer gone(*engine, some_tokens(seed, 5 * kPage), explained(2));
  }
  busy.listener->wait_for_end();
  CHECK(busy.listener->tokens.size() == 200);
  busy.session = nullptr;
  CHECK(wait_for([&] {
    const Stats stats = engine->stats();
    return stats.kv_pages_used == stats.kv_pages_kept;
  }));
}

TEST_CASE("admission: a call that was cancelled leaves room for the next") {
  const auto engine = Engine::open(keeping(1024));
  const auto session = engine->new_session();
  const auto prompt = some_tokens(1, 3 * kPage);
  session->cancel();
  const auto first = session->generate(prompt, explained(2));
  CHECK(first.finish_reason == FinishReason::cancelled);
  const auto second = session->generate(prompt, explained(2));
  const auto expected = alone(prompt, explained(2));
  REQUIRE(second.tokens.size() == 2);
  CHECK(second.tokens[0] == expected[0].first);
  CHECK(second.tokens[1] == expected[1].first);
}

TEST_CASE("admission: a prompt is read however many decode") {
  EngineOptions options = keeping(4096);
  options.prefill_chunk = 8;
  const auto engine = Engine::open(options);
  std::vector<Answer> others;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    others.emplace_back(*engine, some_tokens(seed, 10), explained(400));
  }
  for (const Answer& each : others) {
    each.listener->wait_for_tokens(1);
  }
  Answer late(*engine, some_tokens(9, 40), explained(1));
  late.listener->wait_for_end();
  CHECK(late.listener->error == nullptr);
  for (const Answer& each : others) {
    CHECK(!each.listener->has_ended());
  }
}

TEST_CASE("admission: one row a step is for those who decode as well") {
  EngineOptions options = keeping(4096);
  options.prefill_chunk = 1;
  const auto engine = Engine::open(options);
  Answer decoding(*engine, some_tokens(1, 4), explained(20));
  decoding.listener->wait_for_tokens(1);
  Answer reading(*engine, some_tokens(2, 400), explained(1));
  decoding.listener->wait_for_end();
  CHECK(!reading.listener->has_ended());
  reading.listener->wait_for_end();
  CHECK(reading.listener->error == nullptr);
}

TEST_CASE("admission: idle sessions give way, and go on with the same bits") {
  for (const bool keeps : {false, true}) {
    EngineOptions options = keeping(5 * kPage);
    options.prefix_cache = keeps;
    const auto engine = Engine::open(options);
    const auto roomy = Engine::open(demo_options(24, 1024));
    const auto idle = engine->new_session();
    const auto same = roomy->new_session();
    const auto first = some_tokens(1, 3 * kPage);
    idle->extend(first, Session::Logits::last);
    same->extend(first, Session::Logits::last);
    {
      Answer answer(*engine, some_tokens(2, 3 * kPage), explained(20));
      answer.listener->wait_for_end();
      CHECK(answer.listener->error == nullptr);
    }
    CHECK(idle->length() == 3 * kPage);
    CHECK(idle->extend(some_tokens(3, 5)) == same->extend(some_tokens(3, 5)));
    CHECK(idle->length() == 3 * kPage + 5);
    idle->rewind(10);
    same->rewind(10);
    CHECK(idle->extend(some_tokens(4, 5)) == same->extend(some_tokens(4, 5)));
  }
}

TEST_CASE("admission: a stopped step takes nobody's room away") {
  const auto engine = Engine::open(demo_options(24, 8 * kPage));
  const auto gone = engine->new_session();
  const auto stays = engine->new_session();
  const auto late = engine->new_session();
  std::vector<std::shared_ptr<RecordingListener>> listeners;
  for (int i = 0; i < 3; ++i) {
    listeners.push_back(std::make_shared<RecordingListener>());
  }
  // It leaves when its turn comes, as the step of the first two begins.
  listeners[0]->at_progress = [&](const GenerationProgress& now) {
    if (now.queue_position == 0) {
      gone->cancel();
    }
  };
  // So that all three come before one step.
  Answer first(*engine, some_tokens(0, 2), explained(1));
  first.listener->wait_for_end();
  const auto opener = std::make_shared<RecordingListener>();
  opener->at_text = [&] {
    gone->start(some_tokens(1, 4 * kPage), explained(2), listeners[0]);
    stays->start(some_tokens(2, 3 * kPage - 20), explained(2), listeners[1]);
    late->start(some_tokens(3, 6 * kPage), explained(2), listeners[2]);
  };
  first.session->start(some_tokens(4, 2), explained(1), opener);
  for (const auto& each : listeners) {
    each->wait_for_end();
    CHECK(each->error == nullptr);
  }
  CHECK(listeners[0]->result.finish_reason == FinishReason::cancelled);
  CHECK(listeners[1]->tokens.size() == 2);
  CHECK(listeners[2]->tokens.size() == 2);
}

TEST_CASE("admission: who leaves gives back what was reserved for the rest") {
  EngineOptions options = demo_options(24, 8 * kPage);
  options.prefill_chunk = 16;
  const auto engine = Engine::open(options);
  const auto session = engine->new_session();
  const auto listener = std::make_shared<RecordingListener>();
  listener->at_progress = [&](const GenerationProgress& now) {
    if (now.prompt_read > 0) {
      session->cancel();
    }
  };
  session->start(some_tokens(1, 6 * kPage), explained(2), listener);
  listener->wait_for_end();
  CHECK(session->length() > 0);
  CHECK(wait_for([&] { return engine->stats().kv_pages_used == 1; }));
}

TEST_CASE("admission: giving way twice loses nothing that was said") {
  EngineOptions options = demo_options(24, 12 * kPage);
  options.prefill_chunk = 2; // it is read again for long
  const auto engine = Engine::open(options);
  const auto prompt = some_tokens(3, 10);
  Answer first(*engine, some_tokens(1, 10), explained(300));
  Answer second(*engine, some_tokens(2, 10), explained(740));
  Answer last(*engine, prompt, explained(400));
  REQUIRE(wait_for(
      [&] { return engine->stats().preemptions == 2; },
      std::chrono::seconds(60)));
  last.session->cancel();
  last.listener->wait_for_end();
  CHECK(last.listener->result.finish_reason == FinishReason::cancelled);
  const size_t said = last.listener->tokens.size();
  CHECK(said > kPage);
  CHECK(last.session->length() == prompt.size() + said - 1);
}

TEST_CASE("prefix cache: is not given up for what does not fit anyway") {
  const auto engine = Engine::open(keeping(8 * kPage));
  const auto kept = some_tokens(1, 3 * kPage);
  {
    Answer first(*engine, kept, explained(1));
    first.listener->wait_for_end();
  }
  Answer busy(*engine, some_tokens(2, 2 * kPage + 3), explained(50));
  busy.listener->wait_for_tokens(1);
  Answer late(*engine, some_tokens(3, 7 * kPage), explained(1));
  busy.listener->wait_for_tokens(20); // and each step, it asks
  if (!busy.listener->has_ended()) {
    CHECK(engine->stats().kv_pages_kept >= 3);
  }
  late.listener->wait_for_end();
  CHECK(late.listener->error == nullptr);
}

TEST_CASE("prefix cache: leaves a full session what it goes back to") {
  const auto engine = Engine::open(keeping(4 * kPage));
  const auto roomy = Engine::open(demo_options(24, 1024));
  const auto session = engine->new_session();
  const auto same = roomy->new_session();
  for (Session* each : {session.get(), same.get()}) {
    each->extend(some_tokens(1, 4 * kPage), Session::Logits::last);
    each->rewind(4 * kPage - 10);
  }
  CHECK(
      session->extend(some_tokens(2, 10)) == same->extend(some_tokens(2, 10)));
}

TEST_CASE("session: a cancelled prompt stops within a layer") {
  const auto engine = Engine::open(keeping(1024));
  const auto session = engine->new_session();
  const auto listener = std::make_shared<RecordingListener>();
  // Its step begins right after.
  listener->at_progress = [&](const GenerationProgress&) { session->cancel(); };
  session->start(some_tokens(1, 500), explained(5), listener);
  listener->wait_for_end();
  CHECK(listener->result.finish_reason == FinishReason::cancelled);
  CHECK(session->length() == 0); // nothing of it was taken over
  CHECK(engine->stats().prefill_tokens == 0);
}

TEST_CASE("session: a prompt is read in small parts while others decode") {
  EngineOptions options = keeping(1024);
  options.prefill_chunk = 512;
  options.decode_gap_seconds = 1e-9; // nothing is as fast as that
  const auto engine = Engine::open(options);
  Answer decoding(*engine, some_tokens(1, 20), explained(300));
  decoding.listener->wait_for_tokens(1);
  Answer reading(*engine, some_tokens(2, 400), explained(2));
  reading.listener->wait_for_end();
  const auto& progress = reading.listener->progress;
  CHECK(progress.size() > 10); // one for each part
  CHECK(bits(*reading.listener) == alone(some_tokens(2, 400), explained(2)));
  CHECK(engine->stats().longest_mixed_step_seconds > 0);
}

TEST_CASE("session: a prompt's few last rows make the next one no slower") {
  EngineOptions options = keeping(1024);
  options.prefill_chunk = 512;
  options.decode_gap_seconds = 1e-9;
  const auto engine = Engine::open(options);
  Answer decoding(*engine, some_tokens(1, 20), explained(400));
  decoding.listener->wait_for_tokens(1);
  for (uint64_t seed = 10; seed < 16; ++seed) {
    Answer(*engine, some_tokens(seed, 3), explained(1))
        .listener->wait_for_end();
  }
  const uint64_t before = engine->stats().mixed_steps;
  Answer reading(*engine, some_tokens(2, 112), explained(1));
  reading.listener->wait_for_end();
  // 64, 32 and 16 rows, instead of 16 seven times.
  CHECK(engine->stats().mixed_steps - before <= 3);
  CHECK(!decoding.listener->has_ended());
}

TEST_CASE("session: tells which stop string or token ended an answer") {
  const auto engine = Engine::open(demo_options(24, 192));
  const std::vector<TokenId> prompt{497, 487, 261, 416}; // "Once upon a time"
  const auto run = [&](const GenerationOptions& options) {
    return engine->new_session()->generate(prompt, options);
  };
  GenerationOptions options;
  options.max_tokens = 30;
  const auto plain = run(options);
  CHECK(plain.stop_string.empty());
  CHECK_FALSE(plain.stop_token);
  const std::string part = plain.text.substr(5, 6);
  options.stop_strings = {"never said", part};
  CHECK(run(options).stop_string == part);
  options.stop_strings = {};
  options.stop_tokens = {plain.tokens[4]};
  CHECK(run(options).stop_token == plain.tokens[4]);
}
