// How a memory budget is divided, made before anything large is allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlx_flash {

struct PlanAccount {
  std::string name; // such as "expert_slots"
  uint64_t bytes = 0;
};

struct Plan {
  std::string model; // the folder
  std::string model_type;
  uint64_t model_bytes = 0; // of the weight files

  uint64_t budget_bytes = 0;
  std::string budget_source; // "--memory", or what bounds free memory
  std::vector<PlanAccount> accounts; // every account of the ledger
  uint64_t planned_bytes = 0; // their sum; at most budget_bytes if it fits

  bool fits = false;
  uint64_t smallest_budget_bytes = 0; // that would work with this context
  uint64_t full_budget_bytes = 0; // with which every expert stays in memory

  uint64_t slots = 0; // experts that can be in memory at once
  uint64_t slot_bytes = 0;
  uint64_t experts = 0; // in all layers together
  uint64_t experts_per_token = 0;
  uint64_t expert_layers = 0;

  uint64_t context_tokens = 0; // the KV cache's room, all sessions together
  uint64_t model_context = 0; // the model's own limit for one session
  uint64_t prefill_chunk = 0; // rows of a step at most
  // Answers that can be constrained at once; further ones wait.
  uint64_t constrained_answers = 0;
};

// Parses "24MB", "4GB", "512KiB", "1073741824" or "50%" (of `total_bytes`).
// KB, MB, GB, TB are powers of 1000, KiB ... of 1024; case does not matter.
// Throws Error(invalid_argument).
uint64_t parse_memory_size(const std::string& text, uint64_t total_bytes);

// Such as "24.0 MB".
std::string format_bytes(uint64_t bytes);

} // namespace mlx_flash
