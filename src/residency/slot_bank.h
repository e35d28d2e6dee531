// A fixed set of equally sized slots, each able to hold one expert of any
// layer. The bank decides which expert sits in which slot. It does not read
// files (residency/expert_fetcher.h does) and allocates nothing after
// construction.
//
//            begin_fill            commit             lease dropped
//   free ----------------> filling ------> leased <----------------> ready
//    ^                        |                      try_lease         |
//    |     dropped            |                                        |
//    +------------------------+          begin_fill of another <-------+
//
// A slot that is leased or filling is never a victim. In builds with checks a
// slot is poisoned when its expert leaves.
//
// Thread rule: used by the step thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "residency/eviction_policy.h"
#include "storage/expert_key.h"

namespace mlx_flash {

class SlotBank {
 public:
  class Lease; // pins a filled slot; releasing it makes the slot evictable
  class Filling; // owns a slot being read into; commit() or drop

  // `memory` is split into slots of `slot_bytes` and must outlive the bank.
  // `poison` fills a slot with 0xFF bytes when its expert leaves.
  SlotBank(
      std::span<std::byte> memory,
      size_t slot_bytes,
      EvictionPolicy& policy,
      bool poison = kPoisonByDefault);
  ~SlotBank();
  SlotBank(const SlotBank&) = delete;
  SlotBank& operator=(const SlotBank&) = delete;

  // A step begins, of so many tokens of its longest sequence: tells the policy.
  void begin_step(uint32_t tokens);

  // Pins `key` if it is resident. Counts a hit or a miss, and one use by
  // `rows` rows. A key may be leased any number of times at once.
  [[nodiscard]] std::optional<Lease> try_lease(ExpertKey key, uint32_t rows);

  // Takes a free slot, or evicts the policy's victim, for `key`, which is
  // neither resident nor filling. Empty when every slot is leased or filling;
  // the caller then releases a lease or waits for a completion.
  [[nodiscard]] std::optional<Filling> begin_fill(ExpertKey key);

  bool is_resident(ExpertKey key) const;

  uint32_t slots() const {
    return static_cast<uint32_t>(slots_.size());
  }
  // Slots that have been used since construction: the first so many.
  uint32_t used_slots() const {
    return used_;
  }
  size_t slot_bytes() const {
    return slot_bytes_;
  }
  uint64_t hits() const {
    return hits_;
  }
  uint64_t misses() const {
    return misses_;
  }
  uint64_t evictions() const {
    return evictions_;
  }
  // Slots that are leased or filling now.
  uint32_t pinned_slots() const {
    return pinned_;
  }

#ifdef NDEBUG
  static constexpr bool kPoisonByDefault = false;
#else
  static constexpr bool kPoisonByDefault = true;
#endif

 private:
  using Map = std::unordered_map<ExpertKey, uint32_t>;
  enum class State : uint8_t { free, filling, ready };
  struct Slot {
    ExpertKey key;
    State state = State::free;
    uint32_t leases = 0;
    Map::node_type node; // of where_; kept here while the slot is free
  };

  std::span<std::byte> slot_memory(uint32_t slot) const;
  Lease pin(uint32_t slot);
  void release(uint32_t slot);
  Lease commit(uint32_t slot);
  void abandon(uint32_t slot);
  void vacate(uint32_t slot);

  std::span<std::byte> memory_;
  const size_t slot_bytes_;
  EvictionPolicy& policy_;
  const bool poison_;
  std::vector<Slot> slots_;
  std::vector<uint8_t> evictable_;
  std::vector<uint32_t> free_;
  Map where_; // experts that are resident or being read
  uint32_t pinned_ = 0;
  uint32_t used_ = 0;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;
  uint64_t evictions_ = 0;
};

// Movable, not copyable. Must not outlive the bank.
class SlotBank::Lease {
 public:
  Lease(Lease&& other) noexcept
      : bank_(std::exchange(other.bank_, nullptr)), slot_(other.slot_) {}
  Lease& operator=(Lease&& other) noexcept {
    Lease taken(std::move(other)); // what is held is let go here and now
    std::swap(bank_, taken.bank_);
    std::swap(slot_, taken.slot_);
    return *this;
  }
  ~Lease() {
    if (bank_) {
      bank_->release(slot_);
    }
  }

  uint32_t slot() const {
    return slot_;
  }
  std::span<const std::byte> bytes() const {
    return bank_->slot_memory(slot_);
  }

 private:
  friend class SlotBank;
  Lease(SlotBank* bank, uint32_t slot) : bank_(bank), slot_(slot) {}
  SlotBank* bank_;
  uint32_t slot_;
};

// Movable, not copyable. Dropping it without commit() frees the slot, and
// nobody ever sees what was read.
class SlotBank::Filling {
 public:
  Filling(Filling&& other) noexcept
      : bank_(std::exchange(other.bank_, nullptr)), slot_(other.slot_) {}
  Filling& operator=(Filling&& other) noexcept {
    Filling taken(std::move(other));
    std::swap(bank_, taken.bank_);
    std::swap(slot_, taken.slot_);
    return *this;
  }
  ~Filling() {
    if (bank_) {
      bank_->abandon(slot_);
    }
  }

  uint32_t slot() const {
    return slot_;
  }
  std::span<std::byte> bytes() const {
    return bank_->slot_memory(slot_);
  }
  // The slot is full: it becomes resident and leased to the caller.
  [[nodiscard]] Lease commit() && {
    return std::exchange(bank_, nullptr)->commit(slot_);
  }

 private:
  friend class SlotBank;
  Filling(SlotBank* bank, uint32_t slot) : bank_(bank), slot_(slot) {}
  SlotBank* bank_;
  uint32_t slot_;
};

} // namespace mlx_flash
