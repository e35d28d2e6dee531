// What an engine did, in counters. All are since the engine was opened unless
// a result says otherwise.
//
// Seconds of prefill and decode are all of the time in which there was work,
// what happens between two steps included and steps that failed left out. A
// step of both is shared out by rows.
//
// Thread rule: a value; it belongs to whoever holds it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace mlx_flash {

// How often something took how long: bounds are 1, 2, 4, ... microseconds up
// to 8.4 seconds, and what took longer has a count of its own.
struct LatencyHistogram {
  static constexpr size_t kBounds = 24;

  static constexpr double bound_seconds(size_t i) {
    return 1e-6 * static_cast<double>(uint64_t{1} << i);
  }

  void observe(double seconds) {
    size_t i = 0;
    while (i < kBounds && seconds > bound_seconds(i)) {
      ++i;
    }
    ++counts[i];
    sum_seconds += seconds;
  }

  // Of those within bound i and beyond the one before it; the last one of
  // those beyond all bounds.
  std::array<uint64_t, kBounds + 1> counts{};
  double sum_seconds = 0;
};

struct Stats {
  uint64_t steps = 0;
  uint64_t prompt_steps = 0; // with tokens of prompts
  uint64_t mixed_steps = 0; // with those and with decoded ones
  uint64_t prefill_tokens = 0;
  double prefill_seconds = 0;
  uint64_t decode_tokens = 0;
  double decode_seconds = 0;

  // Tokens of prompts that were there already (EngineOptions::prefix_cache),
  // and pages of the KV cache: all, in use, and of these kept for later.
  uint64_t cached_tokens = 0;
  uint64_t kv_pages = 0;
  uint64_t kv_pages_used = 0;
  uint64_t kv_pages_kept = 0;
  // Of cached_tokens, those that came from EngineOptions::prompt_cache, and
  // what is in that folder, and was done with it: files, or pages of the KV
  // cache.
  uint64_t restored_tokens = 0;
  uint64_t prompt_cache_files = 0;
  uint64_t prompt_cache_bytes = 0;
  uint64_t prompt_cache_read = 0;
  uint64_t prompt_cache_written = 0;
  uint64_t prompt_cache_evicted = 0;
  uint64_t prompt_cache_failed = 0; // damaged, or not written
  // Requests that gave up their room for older ones, to be read again.
  uint64_t preemptions = 0;
  uint64_t requests_active = 0; // at the end of the last step
  uint64_t requests_waiting = 0;
  // Of steps that read prompts while somebody waited for a token.
  double longest_mixed_step_seconds = 0;

  uint64_t expert_hits = 0; // lookups that found the expert in its slot
  uint64_t expert_misses = 0;
  uint64_t expert_evictions = 0;
  // Bytes asked of the device, alignment included.
  uint64_t bytes_read_demand = 0; // experts that a step waited for
  uint64_t bytes_read_prefetch = 0; // experts read on a guess
  uint64_t bytes_read_load = 0; // headers and dense weights
  // The same of the steps without tokens of prompts.
  uint64_t decode_expert_hits = 0;
  uint64_t decode_expert_misses = 0;
  uint64_t decode_bytes_read = 0;
  double stall_seconds = 0; // steps waiting for reads with nothing to compute
  LatencyHistogram stall_per_token; // the same of each decoded token
  LatencyHistogram read_latency; // from asking the device to having the bytes

  uint64_t slots = 0;
  uint64_t slots_used = 0; // that hold an expert
  uint64_t budget_bytes = 0;
  uint64_t planned_bytes = 0;
  uint64_t peak_bytes = 0; // of the process, as the budget counts memory
  // The share of time in which something here waits for memory: of this
  // process's cgroup or of the machine. Empty where the system does not say.
  std::optional<double> memory_pressure;
  double load_seconds = 0;

  int threads = 0;
  std::string precision; // "int8", "f32"; "native" on a GPU
  std::string reader; // "uring", "pread" or "memory"
  std::string policy; // "lru", "efd"; "resident" where nothing is streamed
  std::string device; // "cpu" or "gpu"
};

} // namespace mlx_flash
