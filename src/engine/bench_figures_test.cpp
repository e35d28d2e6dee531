// Every number here was computed by hand.
#include "mlx_flash/bench_figures.h"

#include <doctest/doctest.h>

#include "mlx_flash/bench.h"

using namespace mlx_flash;

namespace {

constexpr BenchCase kPrefill{BenchKind::prefill, 0, 3};
constexpr BenchCase kDecode{BenchKind::decode, 4, 3};

BenchWork work() {
  BenchWork work;
  work.dense_bytes = 1000;
  work.expert_bytes = 500;
  work.kv_bytes = 10;
  work.row_parameters = 100;
  work.head_parameters = 50;
  work.attention_flops = 8;
  return work;
}

BenchCounters counters() {
  BenchCounters counters;
  counters.seconds = 2;
  counters.stall_seconds = 0.5;
  counters.expert_hits = 3;
  counters.expert_misses = 1;
  counters.bytes_read = 6'000'000'000;
  return counters;
}

} // namespace

TEST_CASE("bench figures: a decoded token reads its weights and its context") {
  // Positions 4, 5 and 6 attend to 5, 6 and 7: 6 on the mean.
  CHECK(decode_bytes_per_token(work(), kDecode) == 1000 + 500 + 6 * 10);
  CHECK(
      decode_bytes_per_token(work(), {BenchKind::decode, 0, 1}) ==
      1000 + 500 + 10);
}

TEST_CASE("bench figures: operations, the head's for rows with logits alone") {
  CHECK(
      total_flops(work(), kDecode) ==
      2 * 3 * 100 + 2 * 3 * 50 + (5 + 6 + 7) * 8);
  CHECK(
      total_flops(work(), kPrefill) ==
      2 * 3 * 100 + 2 * 1 * 50 + (1 + 2 + 3) * 8);
}

TEST_CASE("bench figures: of a decode") {
  const BenchFigures f = figures_of(counters(), kDecode, work(), {0.001, 4});
  CHECK(f.seconds == 2);
  CHECK(f.tokens_per_second == 1.5);
  CHECK(f.hit_rate == 0.75);
  CHECK(f.bytes_read_per_token == 2e9);
  CHECK(f.disk_gb_per_second == 3);
  CHECK(f.disk_share == 0.75);
  CHECK(f.stall_share == 0.25);
  CHECK(f.memory_bytes_per_token == 1560);
  CHECK(*f.memory_gb_per_second == doctest::Approx(1560 * 1.5 / 1e9));
  CHECK(*f.memory_share == doctest::Approx(1560 * 1.5 / 1e6));
  CHECK(*f.gflop_per_second == doctest::Approx(1044 / 2e9));
}

TEST_CASE("bench figures: a prefill has none of memory") {
  const BenchFigures f = figures_of(counters(), kPrefill, work(), {20, 4});
  CHECK(f.tokens_per_second == 1.5);
  CHECK(*f.gflop_per_second == doctest::Approx(748 / 2e9));
  CHECK_FALSE(f.memory_bytes_per_token);
  CHECK_FALSE(f.memory_gb_per_second);
  CHECK_FALSE(f.memory_share);
}

TEST_CASE("bench figures: what nothing is known of is empty") {
  BenchCounters resident = counters();
  resident.expert_hits = 0;
  resident.expert_misses = 0;
  const BenchFigures f = figures_of(resident, kDecode, work(), {0, 0});
  CHECK_FALSE(f.hit_rate);
  CHECK_FALSE(f.disk_share);
  CHECK_FALSE(f.memory_share);
  CHECK(f.disk_gb_per_second == 3);
}

TEST_CASE("bench figures: median, least and most") {
  CHECK(spread_of({3, 1, 2}) == BenchSpread{2, 1, 3});
  CHECK(spread_of({4, 1, 2, 9}) == BenchSpread{3, 1, 9});
  CHECK(spread_of({7}) == BenchSpread{7, 7, 7});
  CHECK_FALSE(spread_of({}));
}

TEST_CASE("bench figures: the spread is of the warm runs") {
  BenchMeasurement measurement;
  measurement.cold.figures.seconds = 100;
  for (const double seconds : {2.0, 1.0, 6.0, 3.0}) {
    BenchRun run;
    run.figures.seconds = seconds;
    measurement.warm.push_back(run);
  }
  const BenchFigure& seconds = kBenchFigures[0];
  CHECK(warm_spread(measurement, seconds) == BenchSpread{2.5, 1, 6});
  measurement.warm[1].figures.seconds.reset();
  CHECK_FALSE(warm_spread(measurement, seconds));
}

TEST_CASE("bench figures: cases have names") {
  CHECK(bench_case_name(kPrefill) == "prefill 3");
  CHECK(bench_case_name(kDecode) == "decode at 4");
}
