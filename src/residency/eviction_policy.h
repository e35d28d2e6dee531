// Which expert leaves when another needs its slot. A policy ranks; the bank
// (residency/slot_bank.h) decides what may be evicted at all.
//
// A new policy is one file pair, one line in the table of eviction_policy.cpp
// and one test.
//
// Thread rule: used by the step thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "storage/expert_key.h"

namespace mlx_flash {

// What a policy may know of the model and the bank.
struct PolicyShape {
  uint32_t slots = 0;
  uint32_t layers = 0; // the model's layers, dense ones included
  uint32_t experts = 0; // per layer
  uint32_t experts_per_token = 0;
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  virtual std::string_view name() const = 0;

  // A step begins: so many successive tokens of its longest sequence. Users
  // who decode together take one step a token, however many they are.
  virtual void begin_step(uint32_t tokens) = 0;

  // The running layer asks for `key`, resident or not, on behalf of `rows`
  // of the step, of all sequences. Layers come in ascending order within a
  // step.
  virtual void on_use(ExpertKey key, uint32_t rows) = 0;

  // `key` now lives in `slot` (it is being read into it), or has left it.
  virtual void on_insert(ExpertKey key, uint32_t slot) = 0;
  virtual void on_remove(ExpertKey key, uint32_t slot) = 0;

  // The slot to give up. `evictable[slot]` is nonzero for slots that hold an
  // expert nobody has leased. Empty when there is none.
  virtual std::optional<uint32_t> victim(
      std::span<const uint8_t> evictable) = 0;
};

// Throws Error(invalid_argument) that lists the names, "efd" and "lru", for any
// other.
void require_policy(std::string_view name);
std::unique_ptr<EvictionPolicy> make_policy(
    std::string_view name,
    const PolicyShape& shape);

} // namespace mlx_flash
