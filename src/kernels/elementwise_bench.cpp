// Row-wise operations of the widths of a 30B mixture-of-experts model. GB/s
// counts what is read and written, in f32.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "kernels/bench_support.h"
#include "kernels/elementwise.h"

namespace mlx_flash::kernels {
namespace {

constexpr int64_t kHidden = 2048;
constexpr int64_t kHeads = 32;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kExperts = 8; // of a token

// Arguments of all: rows, threads.
void bench_rms_norm(benchmark::State& state) {
  const int64_t rows = state.range(0);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto x = bench_rows(rows, kHidden);
  const auto weight = bench_rows(1, kHidden);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    rms_norm(pool, x.data(), weight.data(), 1e-6f, rows, kHidden, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 2 * rows * kHidden + kHidden);
}

std::vector<float> rope_frequencies() {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < kHeadDim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / kHeadDim;
    frequencies.push_back(static_cast<float>(std::pow(1e6, -exponent)));
  }
  return frequencies;
}

// Once a step. Counts what is written.
void bench_rope_angles(benchmark::State& state) {
  const int64_t rows = state.range(0);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto frequencies = rope_frequencies();
  std::vector<int32_t> positions;
  for (int64_t r = 0; r < rows; ++r) {
    positions.push_back(static_cast<int32_t>(1000 + r));
  }
  const int64_t pairs = kHeadDim / 2;
  std::vector<float> cosines(static_cast<size_t>(rows * pairs));
  std::vector<float> sines(cosines.size());
  for (auto _ : state) {
    rope_angles(
        pool,
        positions.data(),
        frequencies.data(),
        rows,
        pairs,
        cosines.data(),
        sines.data());
    benchmark::DoNotOptimize(cosines.data());
    benchmark::DoNotOptimize(sines.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 2 * rows * pairs);
}

// Twice a layer: queries, and fewer heads of keys.
void bench_rope(benchmark::State& state) {
  const int64_t rows = state.range(0);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto x = bench_rows(rows, kHeads * kHeadDim);
  const auto cosines = bench_rows(rows, kHeadDim / 2);
  const auto sines = bench_rows(rows, kHeadDim / 2);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    rope(
        pool,
        x.data(),
        cosines.data(),
        sines.data(),
        rows,
        kHeads,
        kHeadDim,
        kHeadDim,
        out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 2 * rows * kHeads * kHeadDim);
}

void bench_add(benchmark::State& state) {
  const int64_t n = state.range(0) * kHidden;
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto a = bench_rows(1, n);
  const auto b = bench_rows(1, n);
  std::vector<float> out(a.size());
  for (auto _ : state) {
    add(pool, a.data(), b.data(), n, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 3 * n);
}

void bench_combine_experts(benchmark::State& state) {
  const int64_t rows = state.range(0);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto y = bench_rows(rows * kExperts, kHidden);
  const auto weights = bench_rows(rows, kExperts);
  std::vector<float> out(static_cast<size_t>(rows * kHidden));
  for (auto _ : state) {
    combine_experts(
        pool, y.data(), weights.data(), rows, kExperts, kHidden, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, rows * (kExperts + 1) * kHidden);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "threads"})
      ->ArgsProduct({{1, 128}, {1, 2}})
      ->UseRealTime();
}

BENCHMARK(bench_rms_norm)->Apply(sizes);
BENCHMARK(bench_rope_angles)->Apply(sizes);
BENCHMARK(bench_rope)->Apply(sizes);
BENCHMARK(bench_add)->Apply(sizes);
BENCHMARK(bench_combine_experts)->Apply(sizes);

} // namespace
} // namespace mlx_flash::kernels
