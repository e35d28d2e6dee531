#include "engine/bench_measure.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"

namespace mlx_flash {

namespace {

std::vector<TokenId> random_ids(Rng& rng, uint64_t vocab, uint64_t count) {
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) {
    id = static_cast<TokenId>(rng.below(vocab));
  }
  return ids;
}

// Reads `ids` and chooses the next token, greedily.
void read(Session& session, std::span<const TokenId> ids) {
  GenerationOptions options;
  options.max_tokens = 1;
  options.ignore_eos = true;
  const uint64_t length = session.length() + ids.size();
  const GenerationResult result = session.generate(ids, options);
  if (result.tokens.size() != 1 || session.length() != length) {
    fail(
        ErrorCode::internal,
        "[bench] {} tokens were read and {} chosen, instead of {} and 1",
        session.length(),
        result.tokens.size(),
        length);
  }
}

BenchCounters difference(const Stats& before, const Stats& after) {
  BenchCounters counters;
  counters.stall_seconds = after.stall_seconds - before.stall_seconds;
  counters.steps = after.steps - before.steps;
  counters.expert_hits = after.expert_hits - before.expert_hits;
  counters.expert_misses = after.expert_misses - before.expert_misses;
  counters.bytes_read = after.bytes_read_demand - before.bytes_read_demand +
      after.bytes_read_prefetch - before.bytes_read_prefetch;
  return counters;
}

// Outside of what the engine uses, and inside of its budget.
double memory_speed(
    const Engine& engine,
    const BenchCase& what,
    const MeasureHooks& hooks) {
  const Plan& plan = engine.plan();
  if (what.kind != BenchKind::decode ||
      plan.planned_bytes >= plan.budget_bytes) {
    return 0;
  }
  return hooks.memory_speed(plan.budget_bytes - plan.planned_bytes);
}

// 0 is a measurement that there was no room for.
double mean_of_measured(double before, double after) {
  return before > 0 && after > 0 ? (before + after) / 2
                                 : std::max(before, after);
}

enum class Start { cold, warm };

// A token is decoded by reading it alone. It is the next random one and not the
// one that was chosen: what a model answers to random tokens soon repeats
// itself, which would hit the same experts again and again, and it changes with
// the last bit of a kernel, so that no two builds could be compared.
BenchRun run_once(
    Engine& engine,
    const BenchCase& what,
    Start start,
    const MeasureHooks& hooks,
    Rng& rng) {
  const auto session = engine.new_session();
  const auto ids = random_ids(rng, engine.vocab_size(), what.room());
  const std::span<const TokenId> all(ids);
  if (what.context > 0) {
    read(*session, all.first(what.context));
  }
  // An engine that has just been opened still gets pages for its slots.
  const bool busy = start == Start::cold && what.context == 0;
  const double before_it = busy ? 0 : memory_speed(engine, what, hooks);
  const Stats before = engine.stats();
  const double begin = now_seconds();
  const size_t rows = what.kind == BenchKind::prefill ? what.tokens : 1;
  for (size_t at = what.context; at < ids.size(); at += rows) {
    read(*session, all.subspan(at, rows));
  }
  const double seconds = now_seconds() - begin;
  BenchCounters counters = difference(before, engine.stats());
  counters.seconds = seconds;
  return {
      counters,
      {},
      mean_of_measured(before_it, memory_speed(engine, what, hooks))};
}

} // namespace

BenchMeasurement measure_case(
    const BenchCase& what,
    const BenchOptions& options,
    const MeasureHooks& hooks,
    Stats& engine_stats) {
  EngineOptions engine_options = options.engine;
  engine_options.context_wanted = what.room();
  BenchMeasurement measurement;
  measurement.what = what;
  hooks.on_run(0);
  const double begin = now_seconds();
  const auto engine = hooks.open(engine_options);
  measurement.start_seconds = now_seconds() - begin;
  measurement.start_bytes_read = engine->stats().bytes_read_load;
  measurement.plan = engine->plan();
  Rng rng(options.seed);
  hooks.on_run(1);
  measurement.cold = run_once(*engine, what, Start::cold, hooks, rng);
  for (uint64_t run = 0; run < options.runs; ++run) {
    hooks.on_run(2 + run);
    measurement.warm.push_back(
        run_once(*engine, what, Start::warm, hooks, rng));
  }
  engine_stats = engine->stats();
  measurement.peak_bytes = engine_stats.peak_bytes;
  return measurement;
}

} // namespace mlx_flash
