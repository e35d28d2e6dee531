// Jobs that nobody waits for any more: what is not done for them, and what does
// not stay of them.
#include <doctest/doctest.h>

#include <algorithm>

#include "server/embedding_inputs.h"
#include "server/prompt.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Fixture = GenerationsFixture;

} // namespace

TEST_CASE("generations: scores that wait hold no sessions") {
  Fixture f("");
  f.scripted.hold_steps(); // of which a score is one
  Job job = prompt_of(3);
  job.score_prompt = true;
  job.max_tokens = 0;
  const auto first = f.start(job);
  REQUIRE(f.until([&] { return f.scripted.sessions() == 1; }));
  auto gone = f.start(job);
  const auto third = f.start(job);
  REQUIRE(f.until([&] {
    const auto all = f.generations->list();
    return std::all_of(all.begin(), all.end(), [](const auto& each) {
      return each.state == "prompt";
    });
  }));
  CHECK(f.scripted.sessions() == 1);

  // One that is over is forgotten, and not scored when its turn comes.
  gone.generation->cancel();
  const std::weak_ptr<Generation> kept = gone.generation;
  gone.generation.reset();
  CHECK(f.until([&] { return kept.expired(); }));
  f.scripted.let_steps(2);
  CHECK(f.until([&] { return first->over() && third->over(); }));
  CHECK(f.is_idle());
}

TEST_CASE("generations: what nobody waits for is not prepared") {
  ScriptedSetup setup;
  int compiled = 0;
  setup.check = [&](const Constraint&) { ++compiled; };
  Fixture f(setup);
  Job job = Fixture::chat("Hi");
  job.constraint = {Constraint::Kind::regex, "a+"};
  const auto gone = f.start(job);
  REQUIRE(f.until([&] { return f.state_of_first() == "queued"; }));
  gone.generation->cancel(); // while a worker is about to
  CHECK(f.is_idle());
  CHECK(compiled == 0);
  f.answer(job);
  CHECK(compiled > 0);
}

TEST_CASE("generations: prompts and inputs can be given up half-way") {
  Scripted scripted;
  const auto engine = scripted.open({});
  Replay replay(1, 1000);
  int calls = 0;
  const auto count = [&] { ++calls; };
  make_prompt(
      Fixture::chat("Hi"), JsonLimits{}, "scripted", *engine, replay, count);
  CHECK(calls == 1);
  EmbeddingJob job;
  job.inputs = {"a", "b", "c"};
  const auto embed = [&](const std::function<void()>& between) {
    return make_embedding_inputs(
        job, engine->text(), kScriptedVocab, engine->plan(), between);
  };
  CHECK(embed(count).size() == 3);
  CHECK(calls == 4);
  const auto give_up = [] {
    throw ApiError(ApiErrorKind::unavailable, "nobody waits");
  };
  CHECK_THROWS_AS(
      make_prompt(
          Fixture::chat("Hi"),
          JsonLimits{},
          "scripted",
          *engine,
          replay,
          give_up),
      ApiError);
  CHECK_THROWS_AS(embed(give_up), ApiError);
}

TEST_CASE("generations: no timer stays of a job that is over") {
  Fixture f(
      "", [](ServerOptions& options) { options.limits.request_seconds = 60; });
  for (int i = 0; i < 20; ++i) {
    f.answer(Fixture::chat("Hi"));
  }
  const auto gone = f.start(Fixture::chat("Hi"));
  f.loop.run();
  gone.generation->cancel();
  CHECK(f.is_idle());
  CHECK(f.loop.timers() == 0);
}
