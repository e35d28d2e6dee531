// The experts that one token of Qwen3-30B-A3B asks of a layer: 8 of hidden 2048
// and inner 768, one row each, or several where users decode together. They are
// taken in turn out of more memory than caches hold, as decoding takes them.
// GB/s counts the experts' bytes.
#include <benchmark/benchmark.h>

#include <memory>
#include <numeric>
#include <vector>

#include "kernels/bench_support.h"
#include "kernels/expert_mlp.h"

namespace mlx_flash::kernels {
namespace {

constexpr int64_t kHidden = 2048;
constexpr int64_t kInner = 768;
constexpr size_t kChosen = 8;

struct BenchExpert {
  BenchMatrix gate;
  BenchMatrix up;
  BenchMatrix down;

  explicit BenchExpert(const BenchForm& form)
      : gate(form, kInner, kHidden),
        up(form, kInner, kHidden),
        down(form, kHidden, kInner) {}

  Expert get() const {
    return {gate.get(), up.get(), down.get()};
  }
  int64_t bytes() const {
    return gate.bytes() + up.bytes() + down.bytes();
  }
};

// The experts of `bytes` bytes or a little less.
std::vector<std::unique_ptr<BenchExpert>> experts_of(
    const BenchForm& form,
    int64_t bytes) {
  std::vector<std::unique_ptr<BenchExpert>> experts;
  do {
    experts.push_back(std::make_unique<BenchExpert>(form));
    bytes -= experts.back()->bytes();
  } while (bytes > 0 || experts.size() % kChosen != 0);
  return experts;
}

// Arguments: MiB, threads, rows of each expert.
void bench_experts(benchmark::State& state, const BenchForm& form) {
  const auto experts = experts_of(form, state.range(0) << 20);
  ThreadPool pool(static_cast<int>(state.range(1)));
  Scratch scratch;
  Scratch prepared;
  const int64_t rows = state.range(2);
  const auto each = static_cast<size_t>(rows * kHidden);
  const auto x = bench_rows(rows, kHidden);
  std::vector<float> y(kChosen * each);
  std::vector<uint32_t> row(static_cast<size_t>(rows));
  std::iota(row.begin(), row.end(), 0u);
  const auto precision = Precision::int8;
  size_t next = 0;
  for (auto _ : state) {
    const Expert shape = experts[0]->get();
    const ExpertInputs inputs = prepare_expert_inputs(
        pool,
        shape,
        precision,
        {x.data(), kHidden, rows, nullptr},
        prepared.reserve(expert_inputs_floats(shape, precision, rows)));
    ExpertTask tasks[kChosen];
    for (size_t i = 0; i < kChosen; ++i) {
      tasks[i] = {
          experts[next + i]->get(),
          row.data(),
          {y.data() + i * each, kHidden, rows, nullptr}};
    }
    next = (next + kChosen) % experts.size();
    expert_mlps(pool, scratch, precision, inputs, tasks);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  const auto bytes = static_cast<double>(kChosen * experts[0]->bytes());
  count_rate(state, "GB/s", bytes);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"MiB", "threads", "rows"});
  for (const int64_t rows : {1, 2, 3, 4, 6, 8, 12, 16}) {
    bench->Args({400, 2, rows});
  }
  bench->Args({400, 1, 1});
  bench->UseRealTime();
}

BENCHMARK_CAPTURE(bench_experts, q4, kBenchQ4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_experts, mxfp4, kBenchMxfp4)->Apply(sizes);
BENCHMARK_CAPTURE(bench_experts, bf16, kBenchBf16)->Apply(sizes);

} // namespace
} // namespace mlx_flash::kernels
