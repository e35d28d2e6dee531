// Least recently used: the expert that was asked for longest ago leaves.
//
// The layers of a model are a cyclic scan, so with fewer slots than one token
// asks for (layers * experts per token) LRU evicts each expert just before it
// is asked for again. residency/efd.h has no such cliff; LRU is here as the
// measure that every other policy has to beat.
//
// Thread rule: as EvictionPolicy.
#pragma once

#include <list>
#include <vector>

#include "residency/eviction_policy.h"

namespace mlx_flash {

class Lru : public EvictionPolicy {
 public:
  explicit Lru(const PolicyShape& shape);

  std::string_view name() const override {
    return "lru";
  }
  void begin_step(uint32_t) override {}
  void on_use(ExpertKey key, uint32_t rows) override;
  void on_insert(ExpertKey key, uint32_t slot) override;
  void on_remove(ExpertKey key, uint32_t slot) override;
  std::optional<uint32_t> victim(std::span<const uint8_t> evictable) override;

 private:
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  uint32_t& slot_of(ExpertKey key);

  const PolicyShape shape_;
  std::vector<uint32_t> slot_of_; // by layer and expert
  // Every slot is a node of one of these lists, and moves by splicing: no
  // memory is allocated after construction.
  std::list<uint32_t> order_; // slots with an expert, least recent first
  std::list<uint32_t> empty_;
  std::vector<std::list<uint32_t>::iterator> node_; // by slot
};

} // namespace mlx_flash
