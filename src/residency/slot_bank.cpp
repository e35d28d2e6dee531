#include "residency/slot_bank.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace mlx_flash {

SlotBank::SlotBank(
    std::span<std::byte> memory,
    size_t slot_bytes,
    EvictionPolicy& policy,
    bool poison)
    : memory_(memory),
      slot_bytes_(slot_bytes),
      policy_(policy),
      poison_(poison) {
  MLX_FLASH_CHECK(slot_bytes > 0);
  const auto count = static_cast<uint32_t>(memory.size() / slot_bytes);
  slots_.resize(count);
  evictable_.resize(count);
  where_.reserve(count);
  free_.reserve(count);
  // From the back, so that slots are first used in their order. The map's
  // nodes are made here, each kept with its slot while that is free.
  for (uint32_t slot = count; slot-- > 0;) {
    where_.emplace(ExpertKey{}, slot);
    slots_[slot].node = where_.extract(ExpertKey{});
    free_.push_back(slot);
  }
}

SlotBank::~SlotBank() {
  MLX_FLASH_DCHECK(pinned_ == 0);
}

void SlotBank::begin_step(uint32_t tokens) {
  policy_.begin_step(tokens);
}

std::optional<SlotBank::Lease> SlotBank::try_lease(
    ExpertKey key,
    uint32_t rows) {
  policy_.on_use(key, rows);
  const auto found = where_.find(key);
  if (found == where_.end() || slots_[found->second].state != State::ready) {
    ++misses_;
    return std::nullopt;
  }
  ++hits_;
  return pin(found->second);
}

std::optional<SlotBank::Filling> SlotBank::begin_fill(ExpertKey key) {
  // Two slots for one expert would be a leak at best. Beside the read that
  // follows, the look-up costs nothing.
  MLX_FLASH_CHECK(!where_.contains(key));
  if (free_.empty()) {
    const auto victim = policy_.victim(evictable_);
    if (!victim) {
      return std::nullopt;
    }
    MLX_FLASH_CHECK(evictable_[*victim]);
    ++evictions_;
    vacate(*victim);
  }
  const uint32_t slot = free_.back();
  free_.pop_back();
  auto& node = slots_[slot].node;
  node.key() = key;
  node.mapped() = slot;
  where_.insert(std::move(node));
  slots_[slot].key = key;
  slots_[slot].state = State::filling;
  ++pinned_;
  used_ = std::max(used_, slot + 1);
  policy_.on_insert(key, slot);
  return Filling(this, slot);
}

bool SlotBank::is_resident(ExpertKey key) const {
  const auto found = where_.find(key);
  return found != where_.end() && slots_[found->second].state == State::ready;
}

std::span<std::byte> SlotBank::slot_memory(uint32_t slot) const {
  return memory_.subspan(slot * slot_bytes_, slot_bytes_);
}

SlotBank::Lease SlotBank::pin(uint32_t slot) {
  if (slots_[slot].leases++ == 0) {
    evictable_[slot] = 0;
    ++pinned_;
  }
  return Lease(this, slot);
}

void SlotBank::release(uint32_t slot) {
  MLX_FLASH_DCHECK(slots_[slot].leases > 0);
  if (--slots_[slot].leases == 0) {
    evictable_[slot] = 1;
    --pinned_;
  }
}

SlotBank::Lease SlotBank::commit(uint32_t slot) {
  MLX_FLASH_DCHECK(slots_[slot].state == State::filling);
  slots_[slot].state = State::ready;
  --pinned_;
  return pin(slot);
}

void SlotBank::abandon(uint32_t slot) {
  MLX_FLASH_DCHECK(slots_[slot].state == State::filling);
  --pinned_;
  vacate(slot);
}

void SlotBank::vacate(uint32_t slot) {
  Slot& s = slots_[slot];
  policy_.on_remove(s.key, slot);
  s.node = where_.extract(s.key);
  s.state = State::free;
  evictable_[slot] = 0;
  free_.push_back(slot);
  if (poison_) {
    // 0xFF bytes are a NaN in every float type: whoever still looks here
    // cannot go unnoticed.
    std::memset(slot_memory(slot).data(), 0xFF, slot_bytes_);
  }
}

} // namespace mlx_flash
