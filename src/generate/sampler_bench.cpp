// One token from a vocabulary of 151,936, as large as any in wide use.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "generate/sampler.h"

using namespace mlx_flash;

namespace {

constexpr size_t kVocabulary = 151936;

// About normal with deviation `spread`: 3 is like a trained model, 0.1 is
// nearly flat, the worst case of the filters.
std::vector<float> make_logits(double spread) {
  Rng rng(3);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) {
    double sum = -6;
    for (int i = 0; i < 12; ++i) {
      sum += rng.uniform();
    }
    logit = static_cast<float>(sum * spread);
  }
  return logits;
}

void run(benchmark::State& state, SamplingOptions options, double spread) {
  const std::vector<float> logits = make_logits(spread);
  std::vector<float> scratch(kVocabulary);
  Sampler sampler(options);
  uint64_t hash = 0;
  for (auto _ : state) {
    scratch = logits;
    hash = hash * 31 + sampler.sample(scratch).value();
    benchmark::DoNotOptimize(hash);
  }
}

BENCHMARK_CAPTURE(run, greedy, SamplingOptions{}, 3.0);
BENCHMARK_CAPTURE(run, plain, SamplingOptions{.temperature = 1}, 3.0);
BENCHMARK_CAPTURE(
    run,
    top_k,
    (SamplingOptions{.temperature = 0.7f, .top_k = 40}),
    3.0);
BENCHMARK_CAPTURE(
    run,
    top_p,
    (SamplingOptions{.temperature = 0.7f, .top_p = 0.9f}),
    3.0);
BENCHMARK_CAPTURE(
    run,
    top_p_flat,
    (SamplingOptions{.temperature = 1, .top_p = 0.9f}),
    0.1);

} // namespace
