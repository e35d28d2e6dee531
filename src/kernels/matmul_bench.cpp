// Products of the sizes of a mixture-of-experts layer. GB/s counts the bytes
// of the weights with their scales and biases, once per product; GFLOP/s two
// operations per weight and row.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/rng.h"
#include "kernels/matmul.h"

namespace mlx_flash::kernels {
namespace {

// Weights of random bits and ordinary scales, as bf16 or affine.
struct RandomMatrix {
  Matrix m;
  std::vector<std::byte> weight;
  std::vector<std::byte> scales;
  std::vector<std::byte> biases;

  RandomMatrix(int64_t in, int64_t out, int bits) {
    Rng rng(1);
    m.in = in;
    m.out = out;
    if (bits == 16) {
      m.type = WeightType::bf16;
      weight = numbers(rng, in * out);
    } else {
      m.type = WeightType::affine;
      m.bits = bits;
      m.group_size = 64;
      weight.resize(static_cast<size_t>(row_bytes(m) * out) + 64);
      for (auto& byte : weight) {
        byte = static_cast<std::byte>(rng.next());
      }
      scales = numbers(rng, in / 64 * out);
      biases = numbers(rng, in / 64 * out);
    }
    m.weight = weight.data();
    m.scales = scales.data();
    m.biases = biases.data();
  }

  int64_t bytes() const {
    return static_cast<int64_t>(weight.size() + scales.size() + biases.size());
  }

  // bf16 of magnitude 2^-7 .. 2^-5.
  static std::vector<std::byte> numbers(Rng& rng, int64_t count) {
    std::vector<std::byte> bytes(static_cast<size_t>(count) * 2 + 64);
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
      bytes[i] = static_cast<std::byte>(rng.next());
      bytes[i + 1] = static_cast<std::byte>(0x3C | (rng.next() & 0x80));
    }
    return bytes;
  }
};

// Arguments: in, out, bits (16 is bf16), rows, threads.
void bench_matmul(benchmark::State& state, Precision precision) {
  const int64_t in = state.range(0);
  const int64_t out = state.range(1);
  const int64_t rows = state.range(3);
  const RandomMatrix w(in, out, static_cast<int>(state.range(2)));
  ThreadPool pool(static_cast<int>(state.range(4)));
  Scratch scratch;
  Rng rng(2);
  std::vector<float> x(static_cast<size_t>(rows * in));
  for (auto& value : x) {
    value = static_cast<float>(rng.uniform() * 2 - 1);
  }
  std::vector<float> y(static_cast<size_t>(rows * out));
  const ConstRows x_rows{x.data(), in, rows, nullptr};
  const MutableRows y_rows{y.data(), out, rows, nullptr};
  for (auto _ : state) {
    matmul(pool, scratch, precision, w.m, x_rows, y_rows);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      Counter(static_cast<double>(w.bytes()) * runs / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(
      2.0 * static_cast<double>(in * out * rows) * runs / 1e9,
      Counter::kIsRate);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"in", "out", "bits", "rows", "threads"});
  const int64_t shapes[][2] = {{2048, 768}, {768, 2048}, {2048, 4096}};
  for (const auto& shape : shapes) {
    for (const int64_t bits : {4, 8, 16}) {
      for (const int64_t rows : {1, 8, 128, 512}) {
        for (const int64_t threads : {1, 2}) {
          bench->Args({shape[0], shape[1], bits, rows, threads});
        }
      }
    }
  }
}

BENCHMARK_CAPTURE(bench_matmul, f32, Precision::f32)
    ->Apply(sizes)
    ->UseRealTime();
BENCHMARK_CAPTURE(bench_matmul, int8, Precision::int8)
    ->Apply(sizes)
    ->UseRealTime();

} // namespace
} // namespace mlx_flash::kernels
