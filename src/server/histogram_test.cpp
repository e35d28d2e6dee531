#include "server/histogram.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "mlx_flash/stats.h"

using namespace mlx_flash;
using server::Histogram;

using Counts = std::vector<uint64_t>;

TEST_CASE("histogram: a value belongs to the first bound that it is within") {
  Histogram histogram{1, 2, 4};
  for (const double value : {0.5, 1.0, 1.5, 2.0, 4.0, 4.5, 100.0}) {
    histogram.observe(value);
  }
  CHECK(histogram.counts() == Counts{2, 2, 1, 2});
  CHECK(histogram.sum() == doctest::Approx(113.5));
}

TEST_CASE("histogram: its sum never falls and is always a number") {
  Histogram histogram{1};
  histogram.observe(3);
  histogram.observe(-2);
  histogram.observe(std::nan(""));
  histogram.observe(std::numeric_limits<double>::infinity());
  CHECK(histogram.sum() == 3);
  CHECK(histogram.counts() == Counts{1, 1});
}

TEST_CASE("latencies: bounds double from a microsecond on") {
  using H = LatencyHistogram;
  CHECK(H::bound_seconds(0) == doctest::Approx(1e-6));
  CHECK(H::bound_seconds(10) == doctest::Approx(1024e-6));
  CHECK(H::bound_seconds(H::kBounds - 1) == doctest::Approx(8.388608));
}

TEST_CASE("latencies: each falls within its bound") {
  LatencyHistogram latencies;
  latencies.observe(0);
  latencies.observe(1e-6);
  latencies.observe(3e-6);
  latencies.observe(LatencyHistogram::bound_seconds(5));
  latencies.observe(60);
  CHECK(latencies.counts[0] == 2);
  CHECK(latencies.counts[2] == 1);
  CHECK(latencies.counts[5] == 1);
  CHECK(latencies.counts[LatencyHistogram::kBounds] == 1);
  CHECK(
      std::accumulate(
          latencies.counts.begin(), latencies.counts.end(), uint64_t{0}) == 5);
  CHECK(latencies.sum_seconds == doctest::Approx(60.000036));
}
