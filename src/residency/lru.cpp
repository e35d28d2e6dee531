#include "residency/lru.h"

#include "base/check.h"

namespace mlx_flash {

Lru::Lru(const PolicyShape& shape)
    : shape_(shape),
      slot_of_(static_cast<size_t>(shape.layers) * shape.experts, kNoSlot) {
  node_.reserve(shape.slots);
  for (uint32_t slot = 0; slot < shape.slots; ++slot) {
    node_.push_back(empty_.insert(empty_.end(), slot));
  }
}

void Lru::on_use(ExpertKey key, uint32_t) {
  const uint32_t slot = slot_of(key);
  if (slot != kNoSlot) {
    order_.splice(order_.end(), order_, node_[slot]);
  }
}

void Lru::on_insert(ExpertKey key, uint32_t slot) {
  MLX_FLASH_DCHECK(slot_of(key) == kNoSlot);
  slot_of(key) = slot;
  order_.splice(order_.end(), empty_, node_[slot]);
}

void Lru::on_remove(ExpertKey key, uint32_t slot) {
  MLX_FLASH_DCHECK(slot_of(key) == slot);
  slot_of(key) = kNoSlot;
  empty_.splice(empty_.end(), order_, node_[slot]);
}

// Walks past pinned slots only, of which there are few: what a layer leases
// and what is being read was used last and stands at the far end.
std::optional<uint32_t> Lru::victim(std::span<const uint8_t> evictable) {
  for (const uint32_t slot : order_) {
    if (evictable[slot]) {
      return slot;
    }
  }
  return std::nullopt;
}

uint32_t& Lru::slot_of(ExpertKey key) {
  MLX_FLASH_DCHECK(key.layer < shape_.layers && key.expert < shape_.experts);
  return slot_of_[static_cast<size_t>(key.layer) * shape_.experts + key.expert];
}

} // namespace mlx_flash
