// Products of the sizes of a mixture-of-experts layer, and of one row with a
// matrix that no cache holds. GB/s counts the bytes of the weights with their
// scales and biases, once per product; GFLOP/s two operations per weight and
// row.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/bench_support.h"
#include "kernels/matmul.h"

namespace mlx_flash::kernels {
namespace {

void run(
    benchmark::State& state,
    Precision precision,
    const BenchMatrix& w,
    int64_t rows,
    int threads) {
  const auto& [in, out] = std::pair(w.get().in, w.get().out);
  ThreadPool pool(threads);
  Scratch scratch;
  const auto x = bench_rows(rows, in);
  std::vector<float> y(static_cast<size_t>(rows * out));
  const ConstRows x_rows{x.data(), in, rows, nullptr};
  const MutableRows y_rows{y.data(), out, rows, nullptr};
  for (auto _ : state) {
    matmul(pool, scratch, precision, w.get(), x_rows, y_rows);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  count_rate(state, "GB/s", static_cast<double>(w.bytes()));
  count_rate(state, "GFLOP/s", 2.0 * static_cast<double>(in * out * rows));
}

// Arguments: in, out, rows, threads.
void bench_matmul(
    benchmark::State& state,
    Precision precision,
    const BenchForm& form) {
  const BenchMatrix w(form, state.range(1), state.range(0));
  run(state, precision, w, state.range(2), static_cast<int>(state.range(3)));
}

// One row and a matrix of so many MiB. Arguments: MiB, threads.
void bench_from_memory(
    benchmark::State& state,
    Precision precision,
    const BenchForm& form) {
  constexpr int64_t kIn = 4096;
  const int64_t out = (state.range(0) << 20) / form.bytes(kIn);
  const BenchMatrix w(form, out, kIn);
  run(state, precision, w, 1, static_cast<int>(state.range(1)));
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"in", "out", "rows", "threads"});
  const int64_t shapes[][2] = {{2048, 768}, {768, 2048}, {2048, 4096}};
  for (const auto& shape : shapes) {
    for (const int64_t rows : {1, 8, 128, 512}) {
      for (const int64_t threads : {1, 2}) {
        bench->Args({shape[0], shape[1], rows, threads});
      }
    }
  }
  bench->UseRealTime();
}

void large(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"MiB", "threads"})->Args({400, 1})->Args({400, 2});
  bench->UseRealTime();
}

constexpr auto kF32 = Precision::f32;
constexpr auto kInt8 = Precision::int8;

BENCHMARK_CAPTURE(bench_matmul, q4_f32, kF32, kBenchQ4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, q4_int8, kInt8, kBenchQ4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, q8_f32, kF32, kBenchQ8)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, q8_int8, kInt8, kBenchQ8)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, mxfp4_f32, kF32, kBenchMxfp4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, mxfp4_int8, kInt8, kBenchMxfp4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_matmul, bf16, kInt8, kBenchBf16)->Apply(sizes);
BENCHMARK_CAPTURE(bench_from_memory, q4_int8, kInt8, kBenchQ4)->Apply(large);
BENCHMARK_CAPTURE(bench_from_memory, q8_int8, kInt8, kBenchQ8)->Apply(large);
BENCHMARK_CAPTURE(bench_from_memory, mxfp4_int8, kInt8, kBenchMxfp4)
    ->Apply(large);
BENCHMARK_CAPTURE(bench_from_memory, bf16, kInt8, kBenchBf16)->Apply(large);
BENCHMARK_CAPTURE(bench_from_memory, f32, kInt8, kBenchF32)->Apply(large);

} // namespace
} // namespace mlx_flash::kernels
