// Attention of the shape of a 30B mixture-of-experts model: 32 heads, 4 heads
// of keys, 128 dimensions. GB/s counts each row's keys and values once.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "base/rng.h"
#include "kernels/attention.h"

namespace mlx_flash::kernels {
namespace {

// Arguments: context, rows (the last ones of one sequence), threads.
void bench_attention(benchmark::State& state) {
  const int64_t context = state.range(0);
  const int64_t rows = state.range(1);
  const AttentionShape shape{32, 4, 128, 64, 1.0f / std::sqrt(128.0f)};
  ThreadPool pool(static_cast<int>(state.range(2)));
  Scratch scratch;
  Rng rng(1);
  const auto page_floats =
      static_cast<size_t>(shape.kv_heads * shape.page_tokens * shape.head_dim);
  const int64_t pages = (context + shape.page_tokens - 1) / shape.page_tokens;
  std::vector<float> memory(2 * page_floats * static_cast<size_t>(pages));
  for (auto& value : memory) {
    value = static_cast<float>(rng.uniform() - 0.5);
  }
  std::vector<KvPage> kv;
  for (int64_t p = 0; p < pages; ++p) {
    float* keys = memory.data() + 2 * page_floats * static_cast<size_t>(p);
    kv.push_back({keys, keys + page_floats});
  }
  const int64_t n = shape.heads * shape.head_dim;
  std::vector<float> queries(static_cast<size_t>(rows * n), 0.25f);
  std::vector<float> out(queries.size());
  std::vector<AttentionRow> list;
  for (int64_t r = 0; r < rows; ++r) {
    list.push_back(
        {queries.data() + r * n,
         out.data() + r * n,
         kv.data(),
         context - rows + r + 1});
  }
  for (auto _ : state) {
    attention(pool, scratch, shape, list);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const auto positions = static_cast<double>(rows * context) -
      0.5 * static_cast<double>(rows * rows);
  const auto runs = static_cast<double>(state.iterations());
  const double floats_per_position =
      2.0 * static_cast<double>(shape.kv_heads * shape.head_dim);
  state.counters["GB/s"] = Counter(
      positions * floats_per_position * 4 * runs / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(
      positions * 4.0 * static_cast<double>(n) * runs / 1e9, Counter::kIsRate);
}

BENCHMARK(bench_attention)
    ->ArgNames({"context", "rows", "threads"})
    ->ArgsProduct({{512, 4096}, {1}, {1, 2}})
    ->ArgsProduct({{512}, {128}, {1, 2}})
    ->UseRealTime();

} // namespace
} // namespace mlx_flash::kernels
