// The figures behind metrics.h, and the text that they make: which metrics
// there are, and what they are called.
//
// Thread rule: a value and a pure function.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "server/histogram.h"
#include "server/metrics.h"

namespace mlx_flash::server {

struct MetricsFigures {
  std::map<std::pair<std::string, int>, uint64_t> requests{}; // route, status
  Metrics::Totals totals{};
  // Bounds reach from what a small model in memory takes to what a large one
  // does that comes from a disk for every token.
  Histogram first_token{
      0.01,
      0.025,
      0.05,
      0.1,
      0.25,
      0.5,
      1,
      2.5,
      5,
      10,
      25,
      50,
      100,
      250,
      500,
      1000};
  Histogram token_gap{
      0.001,
      0.0025,
      0.005,
      0.01,
      0.025,
      0.05,
      0.1,
      0.25,
      0.5,
      1,
      2.5,
      5,
      10,
      30};
  Histogram queue{0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
  Histogram prefill_rate{
      1,
      2.5,
      5,
      10,
      25,
      50,
      100,
      250,
      500,
      1000,
      2500,
      5000,
      10000,
      25000};
  Histogram answer{
      0.1,
      0.25,
      0.5,
      1,
      2.5,
      5,
      10,
      25,
      50,
      100,
      250,
      500,
      1000,
      2500,
      5000};
};

// Of this process.
struct ProcessFacts {
  std::string version{};
  double started = 0; // seconds since the epoch
  double uptime_seconds = 0;
};

// `engines` are the counters of all engines, `loads` how many there were;
// `stats` and `plan` are of the one that is loaded, or null.
std::string metrics_text(
    const ProcessFacts& process,
    const MetricsFigures& figures,
    const Metrics::Gauges& gauges,
    const Stats& engines,
    uint64_t loads,
    const Stats* stats,
    const Plan* plan);

} // namespace mlx_flash::server
