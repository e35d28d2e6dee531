// The choice of 8 experts of 128, as a 30B mixture-of-experts model makes it,
// and of 10 of 512.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/rng.h"
#include "kernels/router.h"

namespace mlx_flash::kernels {
namespace {

// Arguments: experts, k, rows, threads.
void bench_route(benchmark::State& state) {
  const int64_t experts = state.range(0);
  const int64_t k = state.range(1);
  const int64_t rows = state.range(2);
  ThreadPool pool(static_cast<int>(state.range(3)));
  Rng rng(1);
  std::vector<float> logits(static_cast<size_t>(rows * experts));
  for (float& logit : logits) {
    logit = static_cast<float>(rng.uniform() * 8 - 4);
  }
  std::vector<uint32_t> ids(static_cast<size_t>(rows * k));
  std::vector<float> weights(ids.size());
  for (auto _ : state) {
    route(
        pool,
        logits.data(),
        rows,
        experts,
        k,
        true,
        ids.data(),
        weights.data());
    benchmark::DoNotOptimize(ids.data());
    benchmark::DoNotOptimize(weights.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * rows);
}

BENCHMARK(bench_route)
    ->ArgNames({"experts", "k", "rows", "threads"})
    ->ArgsProduct({{128}, {8}, {1, 128}, {1, 2}})
    ->ArgsProduct({{512}, {10}, {1, 128}, {1, 2}})
    ->UseRealTime();

} // namespace
} // namespace mlx_flash::kernels
