// A whole bench on the demo model, which has 6 layers with 32 experts, 4 of
// them for a token, and 1024 tokens of context.
#include "mlx_flash/bench.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace mlx_flash;

namespace {

BenchOptions demo() {
  BenchOptions options;
  options.engine.model = MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";
  options.engine.slots = 24;
  options.engine.threads = 1;
  options.engine.single_session = true;
  options.engine.prefill_chunk = 16;
  options.prefill = {{24}};
  options.contexts = {{0, 40}};
  options.decode_tokens = 6;
  options.runs = 2;
  options.probe_seconds = 0;
  return options;
}

ErrorCode refusal(const BenchOptions& options) {
  try {
    run_bench(options);
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

} // namespace

TEST_CASE("bench: measures what it was asked to, and counts every step") {
  std::vector<std::string> told;
  const BenchReport report =
      run_bench(demo(), [&](const BenchProgress& progress) {
        told.push_back(
            progress.what ? bench_case_name(*progress.what) : "speeds");
        CHECK(progress.measurements == 3);
        CHECK(progress.runs == 3);
      });
  // Opening, a cold run and two warm ones, three times.
  CHECK(told.size() == 1 + 3 * 4 + 1);
  CHECK(told.front() == "speeds");
  CHECK(told.back() == "speeds");
  REQUIRE(report.measurements.size() == 3);
  const uint64_t steps[] = {2, 6, 6}; // 24 rows in chunks of 16
  for (size_t i = 0; i < 3; ++i) {
    const BenchMeasurement& m = report.measurements[i];
    CAPTURE(bench_case_name(m.what));
    CHECK(m.plan.slots == 24);
    CHECK(m.plan.context_tokens == m.what.room());
    CHECK(m.start_seconds > 0);
    CHECK(m.start_bytes_read > 1'000'000);
    CHECK(m.peak_bytes > 0);
    REQUIRE(m.warm.size() == 2);
    for (const BenchRun& run : {m.cold, m.warm[0], m.warm[1]}) {
      const BenchCounters& c = run.counters;
      CHECK(c.steps == steps[i]);
      CHECK(c.seconds > 0);
      CHECK(c.stall_seconds <= c.seconds);
      if (m.what.kind == BenchKind::decode) {
        CHECK(c.expert_hits + c.expert_misses == 6 * 6 * 4);
      }
      // A record is 55,296 bytes; reads are rounded up.
      CHECK(c.bytes_read >= c.expert_misses * 55'296);
      CHECK(
          *run.figures.tokens_per_second ==
          doctest::Approx(static_cast<double>(m.what.tokens) / c.seconds));
      CHECK(*run.figures.disk_share > 0);
    }
  }
  // Nothing is in memory at first.
  CHECK(report.measurements[1].cold.counters.expert_misses >= 24);
  CHECK(report.work.expert_bytes == 6 * 4 * 55'296);
  CHECK(report.engine.threads == 1);
}

TEST_CASE("bench: says what it was measured on, twice") {
  BenchOptions options = demo();
  options.contexts = std::vector<uint64_t>{};
  options.decode_tokens.reset();
  const BenchReport report = run_bench(options);
  CHECK(report.machine.cpu != "");
  CHECK(report.machine.simd != "");
  CHECK(report.machine.system != "");
  CHECK(report.machine.cpus >= 1);
  CHECK(report.machine.memory_total_bytes > 0);
  const BenchSpeeds& speeds = report.speeds;
  REQUIRE(speeds.memory_gb_per_second.size() == 2);
  REQUIRE(speeds.disk_gb_per_second.size() == 2);
  CHECK(
      speeds.best.memory_gb_per_second ==
      std::max(speeds.memory_gb_per_second[0], speeds.memory_gb_per_second[1]));
  CHECK(
      speeds.best.disk_gb_per_second ==
      std::max(speeds.disk_gb_per_second[0], speeds.disk_gb_per_second[1]));
  CHECK(speeds.best.memory_gb_per_second > 0);
  CHECK(speeds.best.disk_gb_per_second > 0);
  CHECK(speeds.memory_buffer_bytes > 0);
  CHECK(speeds.disk_read_bytes > 0);
  CHECK(speeds.disk_depth > 0);
}

TEST_CASE("bench: with every expert in memory nothing is looked up or read") {
  BenchOptions options = demo();
  options.engine.slots.reset();
  options.engine.resident = true;
  options.prefill = std::vector<uint64_t>{};
  options.contexts = {{3}};
  const BenchReport report = run_bench(options);
  const BenchMeasurement& m = report.measurements.at(0);
  CHECK_FALSE(m.cold.figures.hit_rate);
  CHECK(m.cold.counters.bytes_read == 0);
  CHECK(m.cold.figures.disk_gb_per_second == 0);
  CHECK(*m.warm[0].figures.memory_share > 0);
  CHECK(report.engine.policy == "resident");
}

TEST_CASE("bench: what cannot be is refused before anything is measured") {
  BenchOptions options = demo();
  options.runs = 0;
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options = demo();
  options.probe_seconds = -1;
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options = demo();
  options.prefill = {{1025}};
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options.prefill = {{50}};
  options.engine.context_tokens = 49;
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options = demo();
  options.engine.memory = "1MB";
  CHECK(refusal(options) == ErrorCode::out_of_budget);
  options = demo();
  options.engine.slots = 3;
  CHECK(refusal(options) == ErrorCode::invalid_argument);
}
