// Expected forward distance: the expert that will probably be asked for last
// leaves. An approximation of Belady's optimal policy (1966) that takes each
// expert's uses for independent events of a slowly changing rate.
//
// A count of the uses of every expert, resident or not, halves every
// kHalfLifeTokens tokens. The probability that the next token uses the expert
// is
//
//   p = 0.98 * (1 - 2^(-1/half_life)) * count + 0.02 * k / E
//
// the share of recent tokens that used it, mixed with a little of the uniform
// distribution for experts never seen. The layers run in a cycle of length L,
// so the expert's layer comes round in d = (layer - running layer) mod L
// layers (L for the running layer itself), and then the expert is used with
// probability p each time round. On average that makes d + L * (1/p - 1)
// layers until its next use; the largest leaves.
//
// A step whose longest sequence has R rows is R tokens: its `m` uses count as
// if spread evenly over these. So after a long prompt the counts still tell
// popular experts from the others. Sequences side by side are one and the same
// time, and p is then how often a step uses the expert, which may be more than
// once: were each row a moment of its own, the counts would be as noisy as with
// one user and forget the users' texts the sooner the more of them there are.
//
// Experts that the running layer asked for in this step leave only when there
// is no other: some of them may not have been computed yet.
//
// Thread rule: as EvictionPolicy.
#pragma once

#include <vector>

#include "residency/eviction_policy.h"

namespace mlx_flash {

class Efd : public EvictionPolicy {
 public:
  static constexpr uint32_t kHalfLifeTokens = 16;

  explicit Efd(const PolicyShape& shape);

  std::string_view name() const override {
    return "efd";
  }
  void begin_step(uint32_t tokens) override;
  void on_use(ExpertKey key, uint32_t rows) override;
  void on_insert(ExpertKey key, uint32_t slot) override;
  void on_remove(ExpertKey key, uint32_t slot) override;
  // Linear in the slots. Of equals the lowest layer's lowest slot.
  std::optional<uint32_t> victim(std::span<const uint8_t> evictable) override;

 private:
  struct Slot {
    uint32_t index = 0; // of the expert in counts_ and last_step_
    uint32_t layer = 0;
  };
  // The expert of a layer that is used least.
  struct Least {
    double count;
    uint32_t slot;
  };

  size_t index(ExpertKey key) const;
  void rebase();
  void find_least(std::span<const uint8_t> evictable);
  double expected_distance(uint32_t layer, double count) const;

  const PolicyShape shape_;
  // Of every expert, as it would be at the time base_tokens_ if uses in the
  // future counted more, by 2^(age / half life). So no count changes as time
  // goes by, and one factor, growth_, turns any of them into today's.
  std::vector<double> counts_;
  std::vector<uint64_t> last_step_; // in which the expert was used
  std::vector<Slot> slots_;
  // By layer, and at the end that of the experts which the running layer
  // asked for; scratch of victim().
  std::vector<Least> least_;
  uint64_t tokens_ = 0; // the time
  uint64_t base_tokens_ = 0;
  uint64_t step_ = 1;
  uint32_t layer_ = 0; // the one that is running
  double growth_ = 1; // 2^((tokens_ - base_tokens_) / half life)
  double use_weight_ = 1; // of one row's use in this step
};

} // namespace mlx_flash
