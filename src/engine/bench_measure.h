// One measurement of a bench, through the public API alone: an engine of its
// own, a cold run and then warm ones. Its runs have counters; figures need
// what bench.cpp knows.
//
// Thread rule: free functions; callbacks come on the caller's thread.
#pragma once

#include <functional>
#include <memory>

#include "mlx_flash/bench.h"

namespace mlx_flash {

using OpenBenchEngine =
    std::function<std::unique_ptr<Engine>(const EngineOptions& options)>;

struct MeasureHooks {
  OpenBenchEngine open;
  // Called with 0 before the engine is opened, and with each run's number from
  // 1 before it begins.
  std::function<void(uint64_t run)> on_run;
  // How fast memory is read right now, in GB/s, measured with at most
  // `room_bytes`; 0 if that is not enough. Called before and after decoding.
  std::function<double(uint64_t room_bytes)> memory_speed;
};

// `engine` receives the engine's counters at the end. Throws what opening and
// running throw.
BenchMeasurement measure_case(
    const BenchCase& what,
    const BenchOptions& options,
    const MeasureHooks& hooks,
    Stats& engine);

} // namespace mlx_flash
