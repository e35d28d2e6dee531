// What `mlx-flash bench` prints: a table for people, one JSON object, or CSV
// with a row for each run. Other programs rely on the names of fields and
// columns (docs/performance.md lists them); what is added later must not
// rename them.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "cli/build_facts.h"
#include "mlx_flash/bench.h"

namespace mlx_flash::cli {

// A report with what its makers know beside it.
struct BenchOutput {
  const BenchReport& report; // with at least one measurement
  const BenchOptions& options;
  BuildFacts build;
  std::string date; // "2024-07-26T08:30:00Z", when the bench began
};

std::string bench_table(const BenchOutput& output);
std::string bench_json(const BenchOutput& output);
std::string bench_csv(const BenchOutput& output);

// "[2/6] prefill 512: warm run 1 of 5", for standard error.
std::string bench_progress_line(const BenchProgress& progress);

} // namespace mlx_flash::cli
