// How jobs end that do not come to their end: cancelled, failed, out of time.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "base/rng.h"
#include "server/test_generations.h"
#include "server/workers.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Fixture = GenerationsFixture;
using Calls = std::vector<std::string>;

} // namespace

TEST_CASE("generations: a job is cancelled wherever it is") {
  ScriptedSetup setup;
  setup.prefill_chunk = 16;
  setup.script = [](const ScriptedRequest&) { return std::string(500, 'a'); };
  Fixture f(setup, [](ServerOptions& options) { options.limits.parallel = 1; });
  f.scripted.hold_steps();
  Fixture::Started job;
  Fixture::Started before;
  SUBCASE("while the model is loaded") {
    f.scripted.hold_loading();
    job = f.start(prompt_of(64));
    f.loop.run();
    REQUIRE(f.state_of_first() == "loading");
    job.generation->cancel();
    f.loop.run();
    CHECK(f.generations->running() == 0);
    f.scripted.release_loading();
  }
  SUBCASE("while its prompt is made") {
    f.models->begin();
    REQUIRE(f.until([&] { return f.models->current() != nullptr; }));
    job = f.start(prompt_of(64));
    job.generation->cancel();
  }
  SUBCASE("while it waits for room") {
    before = f.start(prompt_of(64));
    REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
    job = f.start(prompt_of(65));
    REQUIRE(f.until([&] { return f.scripted.active() == 2; }));
    f.step();
    job.generation->cancel();
    REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
    before.generation->cancel();
  }
  SUBCASE("while its prompt is read") {
    job = f.start(prompt_of(64));
    REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
    f.step(2);
    REQUIRE(job->progress.back().prompt_read == 32);
    job.generation->cancel();
  }
  SUBCASE("while it is answered, several times over") {
    Job several = prompt_of(64);
    several.choices = 3;
    job = f.start(several);
    REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
    f.step(5);
    REQUIRE(job->choice().content == "a");
    REQUIRE(f.until([&] { return f.scripted.active() == 3; }));
    job.generation->cancel();
  }
  const Calls heard = job->calls;
  job.generation->cancel(); // once more changes nothing
  CHECK(f.is_idle());
  CHECK(job->calls == heard);
  CHECK(!job->over());
  CHECK(f.metrics.totals().cancelled == (before.sink ? 2 : 1));
  CHECK(f.metrics.totals().answers == 0);
  f.scripted.release_steps();
  CHECK(f.answer(prompt_of(10))->usage); // for the next one
}

TEST_CASE("generations: a sink that cancels hears nothing more") {
  Fixture f("abcdef");
  const auto sink = std::make_shared<RecordingSink>();
  std::shared_ptr<Generation> generation;
  const auto cancel = [&] { generation->cancel(); };
  Calls expected;
  SUBCASE("at the start") {
    sink->at_start = cancel;
    expected = {"start"};
  }
  SUBCASE("at a part") {
    sink->at_part = cancel;
    expected = {"start", "progress", "part 0"};
  }
  generation = f.start(Fixture::chat("Hi"), sink).generation;
  CHECK(f.is_idle());
  CHECK(sink->calls == expected);
  CHECK(sink->choice().parts.size() <= 1);
  CHECK(f.metrics.totals().cancelled == 1);
}

TEST_CASE("generations: a sink that throws hears nothing more, and others do") {
  Fixture f("abcdef");
  const auto sink = std::make_shared<RecordingSink>();
  sink->at_part = [] { throw std::runtime_error("no"); };
  f.start(Fixture::chat("Hi"), sink);
  const LogCapture log;
  CHECK(f.is_idle());
  CHECK(sink->choice().parts.size() == 1);
  CHECK(f.answer(Fixture::chat("Hi"))->usage);
}

TEST_CASE("generations: to cancel what has ended changes nothing") {
  Fixture f;
  const auto done = f.answer(Fixture::chat("Hi"));
  const Calls heard = done->calls;
  done.generation->cancel();
  f.loop.run();
  CHECK(done->calls == heard);
  CHECK(f.metrics.totals().cancelled == 0);
  CHECK(f.metrics.totals().answers == 1);
}

TEST_CASE(
    "generations: an engine's failure is its job's, and all else lives on") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest& request) {
    ScriptedAnswer answer("abcdef");
    if (request.prompt[0] == 'x') {
      answer.fails_at = 3;
      answer.why = "[engine] a read failed";
    }
    return answer;
  };
  Fixture f(setup);
  f.scripted.hold_steps();
  const LogCapture log;
  Job several = prompt_of(8);
  several.choices = 2;
  const auto bad = f.start(several);
  const auto good = f.start(Fixture::chat("Hi"));
  REQUIRE(f.until([&] { return f.scripted.active() == 2; }));
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return bad->over() && good->over(); }));
  REQUIRE(bad->error);
  CHECK(bad->error->kind() == ApiErrorKind::internal);
  CHECK(std::string(bad->error->what()) == "[engine] a read failed");
  // The choice that failed had said so much, the other one maybe less.
  CHECK(std::max(bad->choices[0].content, bad->choices[1].content) == "abc");
  CHECK(good->choice().content == "abcdef");
  CHECK(log.text().find("[request r1]") != std::string::npos);
  CHECK(f.is_idle());
  CHECK(f.metrics.totals().answers == 1);
}

TEST_CASE("generations: what the engine refuses keeps its status") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest&) -> ScriptedAnswer {
    throw Error(ErrorCode::invalid_argument, "[grammar] does not compile");
  };
  Fixture f(setup);
  CHECK(
      f.answer(Fixture::chat("Hi"))->error->kind() ==
      ApiErrorKind::invalid_request);
  CHECK(f.is_idle());
}

TEST_CASE("generations: sessions that cannot be had fail the job") {
  Fixture f(ScriptedSetup{}, [](ServerOptions& options) {
    options.open_engine = [open = options.open_engine](EngineOptions engine) {
      engine.max_sessions = 0;
      return open(engine);
    };
  });
  Job scored = prompt_of(3);
  scored.score_prompt = true;
  for (const Job& job : {Fixture::chat("Hi"), scored}) {
    const auto done = f.answer(job);
    REQUIRE(done->error);
    CHECK(done->error->kind() == ApiErrorKind::unavailable);
    CHECK(f.is_idle());
  }
}

TEST_CASE("generations: a sink that has no room for more is told so") {
  Fixture f("abcdef");
  const auto sink = std::make_shared<RecordingSink>();
  sink->at_part = [] { throw ApiError(ApiErrorKind::unavailable, "no room"); };
  const auto job = f.start(Fixture::chat("Hi"), sink);
  REQUIRE(f.until([&] { return job->over(); }));
  CHECK(std::string(job->error->what()) == "no room");
  CHECK(f.is_idle());
  CHECK(f.metrics.totals().failed == 1);
  CHECK(f.metrics.totals().answers == 0);
}

TEST_CASE("generations: cancel_all ends all with a word") {
  Fixture f("abcdef");
  f.scripted.hold_steps();
  const auto first = f.start(Fixture::chat("Hi"));
  const auto second = f.start(Fixture::chat("Ho"));
  REQUIRE(f.until([&] { return f.scripted.active() == 2; }));
  f.generations->cancel_all();
  CHECK(f.is_idle());
  CHECK(first->error->kind() == ApiErrorKind::unavailable);
  CHECK(second->error->kind() == ApiErrorKind::unavailable);
}

TEST_CASE("generations: an answer that takes too long ends with a word") {
  Fixture f("abcdef", [](ServerOptions& options) {
    options.limits.request_seconds = 60;
  });
  f.scripted.hold_steps();
  const auto job = f.start(Fixture::chat("Hi"));
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  f.step(2);
  f.loop.advance(50);
  CHECK(!job->over());
  f.loop.advance(11);
  REQUIRE(job->error);
  CHECK(job->error->kind() == ApiErrorKind::timeout);
  CHECK(f.is_idle());
  f.scripted.release_steps();
  const auto done = f.answer(Fixture::chat("Hi"));
  f.loop.advance(100); // its timer does nothing any more
  CHECK(done->usage);
  CHECK(!done->error);
}

TEST_CASE("generations: slow answers are logged however they end") {
  Fixture f("abcdef", [](ServerOptions& options) {
    options.slow_seconds = 1e-9;
    options.limits.request_seconds = 60;
  });
  f.scripted.hold_steps();
  const LogCapture log;
  const auto job = f.start(prompt_of(8));
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  f.step(4); // the prompt is one of them
  std::string expected = "[slow] request r1 to scripted ";
  SUBCASE("as they are cancelled") {
    job.generation->cancel();
    f.loop.run();
    expected += "cancelled";
    CHECK(f.metrics.totals().cancelled == 1);
    CHECK(f.metrics.totals().failed == 0);
  }
  SUBCASE("as they take too long") {
    f.loop.advance(61);
    CHECK(job->error->kind() == ApiErrorKind::timeout);
    expected += "failed";
    CHECK(f.metrics.totals().failed == 1);
    CHECK(f.metrics.totals().cancelled == 0);
  }
  CHECK(f.is_idle());
  CAPTURE(log.text());
  CHECK(log.text().find(expected + " after ") != std::string::npos);
  CHECK(log.text().find("(8 tokens, ") != std::string::npos);
  CHECK(log.text().find("(3 tokens)") != std::string::npos);
  CHECK(f.metrics.totals().answers == 0);
}

TEST_CASE("generations: that a model is slow to come is logged, too") {
  Fixture f(ScriptedSetup{}, [](ServerOptions& options) {
    options.slow_seconds = 1e-9;
  });
  f.scripted.fail_loading("[io] a disk is broken");
  const LogCapture log;
  CHECK(f.answer(prompt_of(8))->error);
  CHECK(
      log.text().find("[slow] request r1 to a model that was not there failed "
                      "after ") != std::string::npos);
}

TEST_CASE("generations: the time of a job counts from when it was received") {
  Fixture f("abcdef", [](ServerOptions& options) {
    options.limits.request_seconds = 60;
  });
  f.scripted.hold_steps();
  const auto sink = std::make_shared<RecordingSink>();
  f.generations->start(Fixture::chat("Hi"), now_seconds() - 55, sink);
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  f.loop.advance(6);
  CHECK(sink->error);
}

TEST_CASE("generations: their end takes all jobs with it, wherever they are") {
  Fixture f("abcdef");
  f.scripted.hold_steps();
  const auto sinks = {
      f.start(Fixture::chat("Hi")),
      f.start(Fixture::chat("Ho")),
      f.start(prompt_of(8))};
  SUBCASE("at the beginning") {}
  SUBCASE("later") {
    REQUIRE(f.until([&] { return f.scripted.active() == 3; }));
    f.step(2);
  }
  f.generations.reset();
  CHECK(f.until([&] { return f.scripted.sessions() == 0; }));
  f.loop.run();
  for (const auto& each : sinks) {
    CHECK(!each->over());
    each.generation->cancel();
  }
  f.loop.run();
}

TEST_CASE(
    "generations: many jobs at once, cancelled at random, all come to an end") {
  const uint64_t seed = 20261122;
  CAPTURE(seed);
  Rng random(seed);
  ScriptedSetup setup;
  setup.prefill_chunk = 16;
  setup.script = [](const ScriptedRequest& request) {
    return "answer to " + request.prompt;
  };
  Fixture f(setup, [](ServerOptions& options) { options.limits.parallel = 4; });
  size_t answered = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<Fixture::Started> jobs;
    std::vector<bool> cancelled;
    for (int i = 0; i < 12; ++i) {
      Job job;
      job.prompt = "prompt " + std::to_string(random.below(1000));
      job.choices = 1 + random.below(2);
      jobs.push_back(f.start(job));
      cancelled.push_back(random.below(3) == 0);
    }
    uint64_t turns = random.below(60);
    f.until([&] { return turns-- == 0; });
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (cancelled[i]) {
        jobs[i].generation->cancel();
      }
    }
    REQUIRE(f.is_idle());
    for (size_t i = 0; i < jobs.size(); ++i) {
      CHECK((jobs[i]->over() || cancelled[i]));
      CHECK(!jobs[i]->error);
      answered += jobs[i]->over();
      if (jobs[i]->over()) {
        CHECK(jobs[i]->choice().content.rfind("answer to prompt ", 0) == 0);
      }
    }
  }
  CHECK(answered > 100);
}

TEST_CASE("generations: workers and callers may be threads of their own") {
  Fixture f("abcdef");
  WorkerPool workers(2, SIZE_MAX);
  Generations generations(f.options, f.loop, workers, *f.models, f.metrics);
  std::atomic<int> over = 0;
  struct CountingSink : RecordingSink {
    explicit CountingSink(std::atomic<int>& ends) : ends_(ends) {}
    void on_end(const Usage&, const Timings&) override {
      ++ends_;
    }
    std::atomic<int>& ends_;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        generations.start(
            GenerationsFixture::chat("Hi"),
            now_seconds(),
            std::make_shared<CountingSink>(over));
        generations.list();
      }
    });
  }
  CHECK(f.until([&] { return over == 30; }));
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(f.until([&] { return generations.running() == 0; }));
}
