// How fast a model runs here, and how near that is to what memory and disk
// allow. Each measurement opens an engine of its own, so that it depends on
// nothing that was measured before it: first a cold run, with no expert in
// memory, then warm ones, each with other random tokens.
//
// Seconds are those that a caller waits. Memory and disk are measured before
// the first engine is opened and again after the last one is closed, and memory
// beside an engine too, before and after decoding, if its budget has room.
//
// Thread rule: run_bench() calls back on its caller's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mlx_flash/bench_figures.h"
#include "mlx_flash/engine.h"

namespace mlx_flash {

struct BenchOptions {
  // Its context_wanted is set for each measurement.
  EngineOptions engine;
  // Tokens of prompts, and tokens that a session holds before `decode_tokens`
  // more are decoded. What is given must be possible; the defaults (128, 512,
  // 2048; 0, 512, 4096; 32) are cut to what is.
  std::optional<std::vector<uint64_t>> prefill;
  std::optional<std::vector<uint64_t>> contexts;
  std::optional<uint64_t> decode_tokens;
  uint64_t runs = 5; // warm ones of each measurement; at least 1
  uint64_t seed = 0; // of the tokens
  double probe_seconds = 0.5; // for each reading of memory and disk
};

struct BenchMachine {
  std::string cpu; // the model's name
  std::string simd; // what the kernels use of it, such as "AVX3" or "NEON"
  bool byte_dot = false; // and its dot products of bytes (VNNI, DotProd)
  std::string system; // such as "Linux 6.1 x86_64, Debian GNU/Linux 12"
  int cpus = 0; // that this process may use
  uint64_t last_level_cache_bytes = 0; // 0 where the system does not say
  uint64_t memory_total_bytes = 0; // or the smallest limit
  uint64_t memory_free_bytes = 0; // before anything was measured
};

// What memory and disk can do, each measured before and after.
struct BenchSpeeds {
  BenchLimits best;
  std::vector<double> memory_gb_per_second; // reads by all threads
  std::vector<double> disk_gb_per_second; // of experts, in random order
  uint64_t memory_buffer_bytes = 0; // that the threads read
  uint64_t disk_read_bytes = 0; // of one read, on the mean
  int disk_depth = 0; // reads in flight at the device
};

struct BenchRun {
  BenchCounters counters;
  BenchFigures figures;
  // What memory_share is of: how fast memory was read just before and just
  // after decoding, on the mean, for other users of a machine's memory come and
  // go within seconds; where the budget has no room to measure that, the best
  // of `BenchSpeeds`. 0 if there is nothing to tell.
  double memory_gb_per_second = 0;
};

struct BenchMeasurement {
  BenchCase what;
  Plan plan; // of the engine that it was measured on
  double start_seconds = 0; // until that engine was ready
  uint64_t start_bytes_read = 0; // headers and dense weights
  uint64_t peak_bytes = 0; // of the process, as the budget counts memory
  BenchRun cold;
  std::vector<BenchRun> warm;
};

// Over the warm runs; empty if one of them has no such figure.
std::optional<BenchSpread> warm_spread(
    const BenchMeasurement& measurement,
    const BenchFigure& figure);

struct BenchReport {
  BenchMachine machine;
  BenchSpeeds speeds;
  BenchWork work;
  Stats engine; // of the last one: threads, precision, reader, policy, device
  std::vector<BenchMeasurement> measurements;
  std::vector<std::string> notes; // what was left out, what to know
};

struct BenchProgress {
  size_t measurement = 0; // from 0
  size_t measurements = 0;
  std::optional<BenchCase> what; // empty: memory and disk
  uint64_t run = 0; // 0: the engine is opened; 1: the cold run
  uint64_t runs = 0;
};
using OnBenchProgress = std::function<void(const BenchProgress&)>;

// Throws Error(invalid_argument | out_of_budget) for what was asked for and
// cannot be, before anything is measured, and what Engine::open throws.
BenchReport run_bench(
    const BenchOptions& options,
    const OnBenchProgress& on_progress = {});

} // namespace mlx_flash
