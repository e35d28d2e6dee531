// A measurement on an engine that counts what it is asked for.
#include "engine/bench_measure.h"

#include <doctest/doctest.h>

#include <set>

#include "base/error.h"

using namespace mlx_flash;

namespace {

constexpr uint64_t kVocab = 1000;
struct Call {
  std::vector<TokenId> prompt;
  uint64_t length_before = 0; // of the session
};

// What is seen of all engines together.
struct Log {
  std::vector<EngineOptions> opened;
  std::vector<Call> calls;
  uint64_t answer_tokens = 1;
  std::vector<uint64_t> memory_rooms; // of each measurement of memory
  std::vector<size_t> calls_at_memory; // that were made before it
  size_t memory_fails_from = SIZE_MAX; // this measurement on finds no room
};

class CountingSession : public Session {
 public:
  CountingSession(Log& log, Stats& stats) : log_(log), stats_(stats) {}

  uint64_t length() const override {
    return length_;
  }
  GenerationResult generate(
      std::span<const TokenId> prompt,
      const GenerationOptions& options,
      const OnText&) override {
    CHECK(options.ignore_eos);
    CHECK(options.sampling.temperature == 0);
    CHECK(options.max_tokens == 1);
    log_.calls.push_back({{prompt.begin(), prompt.end()}, length_});
    const uint64_t rows = prompt.size();
    length_ += rows;
    stats_.steps += 1;
    stats_.expert_hits += 10 * rows;
    stats_.expert_misses += rows;
    stats_.bytes_read_demand += 100 * rows;
    stats_.bytes_read_prefetch += 1 * rows;
    stats_.stall_seconds += 0.5 * static_cast<double>(rows);
    GenerationResult result;
    result.tokens.assign(log_.answer_tokens, TokenId{77});
    return result;
  }
  void start(
      std::vector<TokenId>,
      const GenerationOptions&,
      std::shared_ptr<GenerationListener>) override {}
  ScoreResult score(std::span<const TokenId>, int) override {
    return {};
  }
  void start_embedding(std::vector<TokenId>, OnEmbedding) override {}
  std::vector<float> extend(std::span<const TokenId>, Logits) override {
    return {};
  }
  void rewind(uint64_t) override {}
  void cancel() override {}

 private:
  Log& log_;
  Stats& stats_;
  uint64_t length_ = 0;
};

class CountingEngine : public Engine {
 public:
  explicit CountingEngine(Log& log) : log_(log) {
    stats_.bytes_read_load = 5000;
    stats_.peak_bytes = 6000;
    plan_.slots = 9;
    plan_.budget_bytes = 1000;
    plan_.planned_bytes = 700;
  }
  const Plan& plan() const override {
    return plan_;
  }
  Stats stats() const override {
    return stats_;
  }
  const Text& text() const override {
    fail(ErrorCode::internal, "no text");
  }
  const SamplingOptions& default_sampling() const override {
    return sampling_;
  }
  uint64_t default_max_tokens() const override {
    return 0;
  }
  uint64_t vocab_size() const override {
    return kVocab;
  }
  const std::vector<TokenId>& end_tokens() const override {
    return end_tokens_;
  }
  void check(const Constraint&) const override {}
  std::unique_ptr<Session> new_session() override {
    return std::make_unique<CountingSession>(log_, stats_);
  }

 private:
  Log& log_;
  Plan plan_;
  Stats stats_;
  SamplingOptions sampling_;
  std::vector<TokenId> end_tokens_;
};

BenchMeasurement measure(
    Log& log,
    const BenchCase& what,
    uint64_t seed = 0,
    std::vector<uint64_t>* runs = nullptr) {
  BenchOptions options;
  options.runs = 3;
  options.seed = seed;
  Stats engine;
  return measure_case(
      what,
      options,
      {.open =
           [&](const EngineOptions& each) {
             log.opened.push_back(each);
             return std::make_unique<CountingEngine>(log);
           },
       .on_run =
           [&](uint64_t run) {
             if (runs) {
               runs->push_back(run);
             }
           },
       .memory_speed =
           [&](uint64_t room_bytes) {
             log.memory_rooms.push_back(room_bytes);
             log.calls_at_memory.push_back(log.calls.size());
             const size_t number = log.memory_rooms.size();
             return number < log.memory_fails_from ? static_cast<double>(number)
                                                   : 0.0;
           }},
      engine);
}

} // namespace

TEST_CASE("bench measure: one engine, a cold run and then warm ones") {
  Log log;
  std::vector<uint64_t> runs;
  const auto m = measure(log, {BenchKind::prefill, 0, 40}, 0, &runs);
  CHECK(runs == std::vector<uint64_t>{0, 1, 2, 3, 4});
  REQUIRE(log.opened.size() == 1);
  CHECK(log.opened[0].context_wanted == 40);
  CHECK(m.warm.size() == 3);
  CHECK(m.plan.slots == 9);
  CHECK(m.start_bytes_read == 5000);
  CHECK(m.peak_bytes == 6000);
  CHECK(m.start_seconds >= 0);
  CHECK(log.calls.size() == 4);
  for (const Call& call : log.calls) {
    CHECK(call.prompt.size() == 40);
    CHECK(call.length_before == 0); // each in a session of its own
  }
}

TEST_CASE("bench measure: counters are those of the run alone") {
  Log log;
  const auto m = measure(log, {BenchKind::decode, 50, 8});
  CHECK(log.opened[0].context_wanted == 58);
  const auto check = [](const BenchCounters& counters) {
    CHECK(counters.steps == 8);
    CHECK(counters.expert_hits == 80); // none of the 50 before
    CHECK(counters.expert_misses == 8);
    CHECK(counters.bytes_read == 8 * 101);
    CHECK(counters.stall_seconds == 4);
    CHECK(counters.seconds > 0);
  };
  check(m.cold.counters);
  for (const BenchRun& run : m.warm) {
    check(run.counters);
  }
}

TEST_CASE(
    "bench measure: decoding goes on where the context ends, one by one") {
  Log log;
  measure(log, {BenchKind::decode, 50, 8});
  REQUIRE(log.calls.size() == 4 * (1 + 8)); // each run: a context, 8 tokens
  for (size_t i = 0; i < log.calls.size(); ++i) {
    const size_t step = i % 9;
    CHECK(log.calls[i].prompt.size() == (step == 0 ? 50 : 1));
    CHECK(log.calls[i].length_before == (step == 0 ? 0 : 49 + step));
  }
}

TEST_CASE("bench measure: without a context the first token begins") {
  Log log;
  measure(log, {BenchKind::decode, 0, 8});
  REQUIRE(log.calls.size() == 4 * 8);
  for (size_t i = 0; i < log.calls.size(); ++i) {
    CHECK(log.calls[i].prompt.size() == 1);
    CHECK(log.calls[i].length_before == i % 8);
  }
}

TEST_CASE("bench measure: tokens come from the seed, others in each run") {
  const BenchCase what{BenchKind::prefill, 0, 40};
  Log log;
  Log again;
  Log other;
  measure(log, what, 1);
  measure(again, what, 1);
  measure(other, what, 2);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(log.calls[i].prompt == again.calls[i].prompt);
    CHECK(log.calls[i].prompt != other.calls[i].prompt);
    for (size_t j = 0; j < i; ++j) {
      CHECK(log.calls[i].prompt != log.calls[j].prompt);
    }
    for (const TokenId id : log.calls[i].prompt) {
      CHECK(id < kVocab);
    }
  }
}

TEST_CASE("bench measure: decoded tokens are random, not what was answered") {
  Log log;
  measure(log, {BenchKind::decode, 0, 40});
  std::set<TokenId> seen;
  for (size_t i = 0; i < 40; ++i) {
    seen.insert(log.calls[i].prompt[0]);
  }
  CHECK(seen.size() > 30); // of 1000
}

TEST_CASE("bench measure: memory is measured around the tokens decoded") {
  Log log;
  const auto m = measure(log, {BenchKind::decode, 50, 8});
  CHECK(log.memory_rooms == std::vector<uint64_t>(8, 300));
  // After each run's context and after its 8 tokens.
  CHECK(
      log.calls_at_memory == std::vector<size_t>{1, 9, 10, 18, 19, 27, 28, 36});
  CHECK(m.cold.memory_gb_per_second == 1.5);
  CHECK(m.warm[2].memory_gb_per_second == 7.5);
}

TEST_CASE("bench measure: an engine that still gets its pages is no measure") {
  Log log;
  const auto m = measure(log, {BenchKind::decode, 0, 8});
  CHECK(log.calls_at_memory == std::vector<size_t>{8, 8, 16, 16, 24, 24, 32});
  CHECK(m.cold.memory_gb_per_second == 1);
  CHECK(m.warm[0].memory_gb_per_second == 2.5);
}

TEST_CASE("bench measure: one measurement of memory serves for two") {
  Log log;
  log.memory_fails_from = 4;
  const auto m = measure(log, {BenchKind::decode, 50, 8});
  CHECK(m.warm[0].memory_gb_per_second == 3);
  CHECK(m.warm[1].memory_gb_per_second == 0);
}

TEST_CASE("bench measure: memory's speed bounds no prompt") {
  Log log;
  const auto m = measure(log, {BenchKind::prefill, 0, 40});
  CHECK(log.memory_rooms.empty());
  CHECK(m.cold.memory_gb_per_second == 0);
}

TEST_CASE("bench measure: what was not computed is not counted as done") {
  Log log;
  log.answer_tokens = 0;
  CHECK_THROWS_AS(measure(log, {BenchKind::decode, 0, 8}), Error);
}
