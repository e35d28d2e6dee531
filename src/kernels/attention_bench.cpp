// Attention of the shape of a 30B mixture-of-experts model: 32 heads, 4 heads
// of keys, 128 dimensions. GB/s counts each row's keys and values once.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/rng.h"
#include "kernels/attention.h"
#include "kernels/bench_support.h"
#include "platform/large_pages.h"

namespace mlx_flash::kernels {
namespace {

AttentionShape shape_of(int64_t type) {
  const auto kv_type = static_cast<KvType>(type);
  return {32, 1.0f / std::sqrt(128.0f), {4, 128, kv_type}};
}

// A context of random positions in some layers, laid out as in a KV cache: a
// page of all layers, then the next one.
class Context {
 public:
  Context(const AttentionShape& shape, int64_t positions, int64_t layers)
      : pages_(static_cast<size_t>(layers)),
        memory_(static_cast<size_t>(
            positions / kKvPageTokens * layers * shape.kv.page_bytes())) {
    prefer_large_pages(memory_.span());
    const auto bytes = static_cast<size_t>(shape.kv.page_bytes());
    for (size_t at = 0; at < memory_.size(); at += bytes) {
      pages_[at / bytes % pages_.size()].push_back(memory_.data() + at);
    }
    append_random(shape);
    for (size_t at = bytes; at < memory_.size(); at += bytes) {
      std::memcpy(memory_.data() + at, memory_.data(), bytes);
    }
  }

  std::byte* const* pages(size_t layer) const {
    return pages_[layer].data();
  }

 private:
  void append_random(const AttentionShape& shape) {
    Rng rng(1);
    std::vector<float> numbers(
        static_cast<size_t>(shape.kv.kv_heads * shape.kv.head_dim));
    for (int64_t t = 0; t < kKvPageTokens; ++t) {
      for (float& number : numbers) {
        number = static_cast<float>(rng.uniform() - 0.5);
      }
      append_kv(shape.kv, pages(0), t, numbers.data(), numbers.data());
    }
  }

  std::vector<std::vector<std::byte*>> pages_; // of each layer
  AlignedBuffer memory_;
};

// One row in each of so many layers that they come from memory. Arguments:
// i16, context, threads.
void bench_decode(benchmark::State& state) {
  constexpr int64_t kBytes = int64_t{400} << 20;
  const AttentionShape shape = shape_of(state.range(0));
  const int64_t context = state.range(1);
  const int64_t bytes = context / kKvPageTokens * shape.kv.page_bytes();
  const auto layers = static_cast<size_t>(kBytes / bytes);
  const Context kv(shape, context, static_cast<int64_t>(layers));
  ThreadPool pool(static_cast<int>(state.range(2)));
  Scratch scratch;
  const auto n = static_cast<size_t>(shape.heads * shape.kv.head_dim);
  const std::vector<float> query(n, 0.25f);
  std::vector<float> out(n);
  size_t layer = 0;
  for (auto _ : state) {
    const AttentionRow row{query.data(), out.data(), kv.pages(layer), context};
    attention(pool, scratch, shape, {&row, 1});
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
    layer = (layer + 1) % layers;
  }
  count_rate(state, "GB/s", static_cast<double>(bytes));
}

BENCHMARK(bench_decode)
    ->ArgNames({"i16", "context", "threads"})
    ->ArgsProduct({{0, 1}, {512, 4096}, {1, 2}})
    ->UseRealTime();

// The last rows of a context. Arguments: i16, context, rows, threads.
void bench_prefill(benchmark::State& state) {
  const AttentionShape shape = shape_of(state.range(0));
  const int64_t context = state.range(1);
  const int64_t rows = state.range(2);
  const Context kv(shape, context, 1);
  ThreadPool pool(static_cast<int>(state.range(3)));
  Scratch scratch;
  const int64_t n = shape.heads * shape.kv.head_dim;
  const std::vector<float> queries(static_cast<size_t>(rows * n), 0.25f);
  std::vector<float> out(queries.size());
  std::vector<AttentionRow> list;
  for (int64_t r = 0; r < rows; ++r) {
    list.push_back(
        {queries.data() + r * n,
         out.data() + r * n,
         kv.pages(0),
         context - rows + r + 1});
  }
  for (auto _ : state) {
    attention(pool, scratch, shape, list);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  const auto positions = static_cast<double>(rows * context) -
      0.5 * static_cast<double>(rows * rows);
  count_rate(state, "GFLOP/s", positions * 4.0 * static_cast<double>(n));
}

BENCHMARK(bench_prefill)
    ->ArgNames({"i16", "context", "rows", "threads"})
    ->ArgsProduct({{0, 1}, {512, 2048, 4096}, {512}, {1, 2}})
    ->ArgsProduct({{0, 1}, {512, 4096}, {8}, {2}})
    ->UseRealTime();

// A token's keys and values. Argument: i16.
void bench_append(benchmark::State& state) {
  const AttentionShape shape = shape_of(state.range(0));
  const Context kv(shape, 512, 1);
  const auto n = static_cast<size_t>(shape.kv.kv_heads * shape.kv.head_dim);
  const std::vector<float> numbers(n, 0.25f);
  int64_t position = 0;
  for (auto _ : state) {
    append_kv(shape.kv, kv.pages(0), position, numbers.data(), numbers.data());
    benchmark::ClobberMemory();
    position = (position + 1) % 512;
  }
}

BENCHMARK(bench_append)->ArgNames({"i16"})->Args({0})->Args({1});

} // namespace
} // namespace mlx_flash::kernels
