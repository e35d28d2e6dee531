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

// `engine` receives the engine's counters at the end. `on_run` is called with
// 0 before the engine is opened, and with each run's number from 1 before it
// begins. Throws what opening and running throw.
BenchMeasurement measure_case(
    const BenchCase& what,
    const BenchOptions& options,
    const OpenBenchEngine& open,
    const std::function<void(uint64_t run)>& on_run,
    Stats& engine);

} // namespace mlx_flash
