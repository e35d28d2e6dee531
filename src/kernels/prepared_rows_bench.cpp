// What a product does beside multiplying: activations are rounded to integers,
// and a row of the embedding is unpacked. GB/s counts the f32 numbers read or
// written.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/bench_support.h"
#include "kernels/matmul.h"
#include "kernels/prepared_rows.h"

namespace mlx_flash::kernels {
namespace {

constexpr int64_t kHidden = 2048;

// Arguments: rows, threads.
void bench_prepare_rows(
    benchmark::State& state,
    Precision precision,
    const BenchForm& form) {
  const int64_t rows = state.range(0);
  const Matrix w = form.matrix(kHidden, kHidden);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const auto x = bench_rows(rows, kHidden);
  const ConstRows x_rows{x.data(), kHidden, rows, nullptr};
  const AlignedBuffer memory(4 * prepared_floats(w, precision, rows));
  auto* const floats = reinterpret_cast<float*>(memory.data());
  for (auto _ : state) {
    const auto prepared = prepare_rows(pool, w, precision, x_rows, floats);
    benchmark::DoNotOptimize(prepared);
    benchmark::ClobberMemory();
  }
  count_floats(state, rows * kHidden);
}

void row_counts(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "threads"})->Args({1, 1})->Args({512, 1});
  bench->Args({512, 2})->UseRealTime();
}

BENCHMARK_CAPTURE(bench_prepare_rows, q4_int8, Precision::int8, kBenchQ4)
    ->Apply(row_counts);
BENCHMARK_CAPTURE(bench_prepare_rows, q4_f32, Precision::f32, kBenchQ4)
    ->Apply(row_counts);
BENCHMARK_CAPTURE(bench_prepare_rows, mxfp4_int8, Precision::int8, kBenchMxfp4)
    ->Apply(row_counts);

void bench_dequantize_row(benchmark::State& state, const BenchForm& form) {
  constexpr int64_t kRows = 64;
  const BenchMatrix w(form, kRows, kHidden);
  std::vector<float> out(kHidden);
  int64_t row = 0;
  for (auto _ : state) {
    dequantize_row(w.get(), row, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
    row = (row + 1) % kRows;
  }
  count_floats(state, kHidden);
}

BENCHMARK_CAPTURE(bench_dequantize_row, q4, kBenchQ4);
BENCHMARK_CAPTURE(bench_dequantize_row, q8, kBenchQ8);
BENCHMARK_CAPTURE(bench_dequantize_row, mxfp4, kBenchMxfp4);
BENCHMARK_CAPTURE(bench_dequantize_row, bf16, kBenchBf16);

} // namespace
} // namespace mlx_flash::kernels
