#include "server/engine_totals.h"

#include <doctest/doctest.h>

using namespace mlx_flash;
using server::EngineTotals;

namespace {

Stats figures(uint64_t scale) {
  Stats stats;
  stats.steps = 10 * scale;
  stats.expert_misses = 3 * scale;
  stats.bytes_read_load = 100;
  stats.decode_seconds = 0.5 * static_cast<double>(scale);
  for (uint64_t i = 0; i < scale; ++i) {
    stats.read_latency.observe(1e-6);
  }
  return stats;
}

} // namespace

TEST_CASE("engine totals: a model that is loaded again goes on counting") {
  EngineTotals totals;
  const Stats first = figures(4);
  CHECK(totals.with(&first).steps == 40);
  totals.retire(first);
  const Stats second = figures(1);
  const Stats& both = totals.with(&second);
  CHECK(both.steps == 50);
  CHECK(both.expert_misses == 15);
  CHECK(both.bytes_read_load == 200);
  CHECK(both.decode_seconds == doctest::Approx(2.5));
  CHECK(both.read_latency.counts[0] == 5);
  CHECK(both.read_latency.sum_seconds == doctest::Approx(5e-6));
  CHECK(totals.engines() == 2);
}

TEST_CASE("engine totals: what was counted stays while no model is loaded") {
  EngineTotals totals;
  CHECK(totals.with(nullptr).steps == 0);
  totals.retire(figures(2));
  CHECK(totals.with(nullptr).steps == 20);
  CHECK(totals.with(nullptr).steps == 20);
}

TEST_CASE("engine totals: nothing falls between an engine's end and retire()") {
  EngineTotals totals;
  const Stats first = figures(4);
  totals.with(&first);
  CHECK(totals.with(nullptr).steps == 40);
  CHECK(totals.with(nullptr).read_latency.counts[0] == 4);
  CHECK(totals.engines() == 1);
  totals.retire(figures(5));
  CHECK(totals.with(nullptr).steps == 50);
  CHECK(totals.engines() == 1);
}
