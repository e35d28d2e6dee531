// The bound: reading memory by itself, from caches and from beyond them.
#include <benchmark/benchmark.h>

#include <cstring>

#include "base/aligned_buffer.h"
#include "kernels/bench_support.h"
#include "kernels/memory_read.h"
#include "platform/large_pages.h"

namespace mlx_flash::kernels {
namespace {

// Arguments: MiB, threads.
void bench_read_memory(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(1)));
  const AlignedBuffer buffer(static_cast<size_t>(state.range(0)) << 20);
  prefer_large_pages(buffer.span());
  std::memset(buffer.data(), 1, buffer.size()); // gives it pages of its own
  uint64_t sum = 0;
  for (auto _ : state) {
    sum += read_memory(pool, buffer.span());
    benchmark::DoNotOptimize(sum);
  }
  count_rate(state, "GB/s", static_cast<double>(buffer.size()));
}

BENCHMARK(bench_read_memory)
    ->ArgNames({"MiB", "threads"})
    ->ArgsProduct({{1, 512}, {1, 2}})
    ->UseRealTime();

} // namespace
} // namespace mlx_flash::kernels
