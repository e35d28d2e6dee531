// What a parallel region costs by itself: a token of a large model is some
// hundreds of them.
#include <benchmark/benchmark.h>

#include <chrono>
#include <thread>

#include "kernels/thread_pool.h"

namespace mlx_flash {
namespace {

void run_region(ThreadPool& pool, int64_t parts) {
  pool.parallel_for(parts, 1, [](int64_t begin, int64_t end, int) {
    benchmark::DoNotOptimize(begin);
    benchmark::DoNotOptimize(end);
  });
}

// One region after another, while the workers still spin. Arguments: threads.
void bench_region(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    run_region(pool, 8 * pool.threads());
  }
}

// A region for workers that have gone to sleep.
void bench_region_after_sleep(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto begin = Clock::now();
    run_region(pool, 8 * pool.threads());
    state.SetIterationTime(
        std::chrono::duration<double>(Clock::now() - begin).count());
  }
}

// With other work of so many microseconds of the caller in between, as the
// graph has it. Arguments: threads, microseconds. The time is the region's.
void bench_region_after_work(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  ThreadPool pool(static_cast<int>(state.range(0)));
  const auto work = std::chrono::microseconds(state.range(1));
  for (auto _ : state) {
    for (const auto end = Clock::now() + work; Clock::now() < end;) {
    }
    const auto begin = Clock::now();
    run_region(pool, 8 * pool.threads());
    state.SetIterationTime(
        std::chrono::duration<double>(Clock::now() - begin).count());
  }
}

BENCHMARK(bench_region)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
// By count: most of their time is not the region's.
BENCHMARK(bench_region_after_sleep)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Iterations(300)
    ->UseManualTime();
BENCHMARK(bench_region_after_work)
    ->ArgNames({"threads", "us"})
    ->ArgsProduct({{2}, {5, 30, 100}})
    ->Iterations(2000)
    ->UseManualTime();

} // namespace
} // namespace mlx_flash
