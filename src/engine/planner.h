// Divides a memory budget among the ledger's accounts before anything large
// is allocated. Pure arithmetic over facts; make_plan() of the public API
// gathers the facts.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/precision.h"
#include "mlx_flash/engine.h"
#include "mlx_flash/plan.h"
#include "models/model.h"
#include "residency/memory_budget.h"
#include "storage/checkpoint.h"
#include "storage/expert_layout.h"
#include "storage/reader.h"

namespace mlx_flash {

// States of a constrained answer's matcher at most, and memory that each has,
// whatever others need.
inline constexpr size_t kMatcherStates = 2000;
inline constexpr uint64_t kMatcherBytes = 2u << 20;

// Rows whose logits are computed at once.
inline constexpr int kLogitRows = 8;

struct PlanFacts {
  std::string model;
  std::string model_type;
  uint64_t model_bytes = 0;
  ModelShape shape;
  uint64_t dense_bytes = 0; // in memory
  uint64_t index_bytes = 0; // tables that know where tensors are
  uint64_t tokenizer_bytes = 0;
  uint64_t staging_bytes = 0;
  uint64_t slot_bytes = 0;
  uint64_t experts = 0; // of all layers
  int threads = 1;
  kernels::KvType kv_type = kernels::KvType::f32;

  uint64_t budget_bytes = 0;
  std::string budget_source;
  uint64_t context_tokens = 0;
  uint64_t prefill_chunk = 0; // 0: choose
  bool grammars = false;
  uint64_t parallel = 0; // answers at once; 0: any number
  uint64_t embedding_bytes = 0; // of those that are being made
  uint64_t result_bytes = 0;
  uint64_t caller_bytes = 0;
  uint64_t prompt_cache_bytes = 0; // in memory
  std::optional<uint64_t> slots; // fixed
  bool resident = false;
};

// Throws Error(invalid_argument) for fixed slots below experts_per_token.
Plan divide_budget(const PlanFacts& facts);

uint64_t plan_bytes(const Plan& plan, Account account);

// Memory for matchers that need more than their own: those of large grammars,
// and of long texts, which are as long together as the context.
uint64_t shared_matcher_bytes(uint64_t matchers, uint64_t context_tokens);

// Answers that can be constrained at once.
uint64_t planned_matchers(const PlanFacts& facts);

// Facts about the model in `options.model` and this machine.
PlanFacts gather_facts(
    const EngineOptions& options,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout);

// How the reader for this model is set up.
ReaderOptions reader_options(const ExpertLayout& layout);

// Memory of slots with their tables, and of a KV cache for so many tokens.
uint64_t slots_bytes(uint64_t slots, uint64_t slot_bytes);
uint64_t kv_bytes(
    const ModelShape& shape,
    kernels::KvType type,
    uint64_t context_tokens);

// Memory of a dense tensor once loaded, and of all of them.
uint64_t dense_tensor_bytes(const TensorInfo& tensor);
uint64_t dense_tensors_bytes(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout);
// They lie in arenas of at most so many bytes, side by side.
inline constexpr uint64_t kDenseArenaBytes = 1 << 30;
// With what large pages add at the ends of arenas.
uint64_t dense_bytes(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    uint64_t arena_bytes = kDenseArenaBytes);

int resolved_threads(int requested);

// Of the CPU back-end.
kernels::Precision resolved_precision(const std::string& requested);

// The type whose size keys and values have. A GPU keeps 16 bits too, but while
// an array grows its old copy is there as well: together, those of f32.
kernels::KvType planned_kv_type(const EngineOptions& options);

} // namespace mlx_flash
