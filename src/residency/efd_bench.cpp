// What choosing a victim costs: about a hundred times a token, over all slots.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/rng.h"
#include "residency/eviction_policy.h"

namespace mlx_flash {
namespace {

// A model of 94 layers with 128 experts, 8 a token, whose slots are all full.
void victim(benchmark::State& state, const char* name) {
  const auto slots = static_cast<uint32_t>(state.range(0));
  const PolicyShape shape = {slots, 94, 128, 8};
  const auto policy = make_policy(name, shape);
  Rng rng(1);
  // Neighbouring slots hold experts that have nothing to do with each other.
  std::vector<ExpertKey> keys;
  for (uint16_t layer = 0; layer < shape.layers; ++layer) {
    for (uint16_t expert = 0; expert < shape.experts; ++expert) {
      keys.push_back({layer, expert});
    }
  }
  for (uint32_t i = 0; i < slots; ++i) {
    std::swap(keys[i], keys[i + rng.below(keys.size() - i)]);
    policy->on_insert(keys[i], i);
  }
  for (int step = 0; step < 100; ++step) {
    policy->begin_step(1);
    for (uint16_t layer = 0; layer < shape.layers; ++layer) {
      for (int i = 0; i < 8; ++i) {
        const uint64_t bound = 1 + rng.below(shape.experts);
        policy->on_use({layer, static_cast<uint16_t>(rng.below(bound))}, 1);
      }
    }
  }
  const std::vector<uint8_t> evictable(slots, 1);
  uint16_t layer = 0;
  for (auto _ : state) {
    policy->on_use({layer, 0}, 1);
    layer = static_cast<uint16_t>((layer + 1) % shape.layers);
    benchmark::DoNotOptimize(policy->victim(evictable));
  }
}

BENCHMARK_CAPTURE(victim, efd, "efd")->Arg(768)->Arg(6144)->Arg(12032);
BENCHMARK_CAPTURE(victim, lru, "lru")->Arg(6144);

} // namespace
} // namespace mlx_flash
