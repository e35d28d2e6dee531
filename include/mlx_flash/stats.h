// What an engine did, in counters. All are since the engine was opened unless
// a result says otherwise.
//
// Seconds of prefill and decode are all of the time in which there was work,
// what happens between two steps included and steps that failed left out. A
// step of both is shared out by rows.
//
// Thread rule: a value; it belongs to whoever holds it.
#pragma once

#include <cstdint>
#include <string>

namespace mlx_flash {

struct Stats {
  uint64_t steps = 0;
  uint64_t prompt_steps = 0; // with tokens of prompts
  uint64_t mixed_steps = 0; // with those and with decoded ones
  uint64_t prefill_tokens = 0;
  double prefill_seconds = 0;
  uint64_t decode_tokens = 0;
  double decode_seconds = 0;

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

  uint64_t slots = 0;
  uint64_t budget_bytes = 0;
  uint64_t planned_bytes = 0;
  uint64_t peak_bytes = 0; // of the process, as the budget counts memory
  double load_seconds = 0;

  int threads = 0;
  std::string precision; // "int8", "f32"; "native" on a GPU
  std::string reader; // "uring", "pread" or "memory"
  std::string policy; // "lru", "efd"; "resident" where nothing is streamed
  std::string device; // "cpu" or "gpu"
};

} // namespace mlx_flash
