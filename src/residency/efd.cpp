#include "residency/efd.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace mlx_flash {

namespace {

constexpr double kObserved = 0.98; // the share of p that comes from counts

// Far below where a double overflows, and rare: every 8192 tokens.
constexpr uint64_t kRebaseHalfLives = 512;

double half_lives(uint64_t tokens) {
  return static_cast<double>(tokens) / Efd::kHalfLifeTokens;
}

constexpr uint32_t kNoSlot = UINT32_MAX;

// What a token fades by until the next.
const double kFade = 1 - std::exp2(-half_lives(1));

} // namespace

Efd::Efd(const PolicyShape& shape)
    : shape_(shape),
      counts_(static_cast<size_t>(shape.layers) * shape.experts),
      last_step_(counts_.size()),
      slots_(shape.slots),
      least_(shape.layers + 1) {}

void Efd::begin_step(uint32_t tokens) {
  MLX_FLASH_DCHECK(tokens > 0);
  ++step_;
  tokens_ += tokens;
  if (tokens_ - base_tokens_ >= kRebaseHalfLives * kHalfLifeTokens) {
    rebase();
  }
  growth_ = std::exp2(half_lives(tokens_ - base_tokens_));
  // One use at each of `tokens` successive tokens would count as the sum of
  // 2^(-i / half life) over i < tokens; a row's use is its share of that.
  use_weight_ = (1 - std::exp2(-half_lives(tokens))) / kFade / tokens;
}

void Efd::on_use(ExpertKey key, uint32_t rows) {
  layer_ = key.layer;
  const size_t i = index(key);
  counts_[i] += growth_ * use_weight_ * rows;
  last_step_[i] = step_;
}

void Efd::on_insert(ExpertKey key, uint32_t slot) {
  slots_[slot] = {static_cast<uint32_t>(index(key)), key.layer};
}

// The bank never offers a slot without an expert, and an expert's history
// outlives its stay.
void Efd::on_remove(ExpertKey, uint32_t) {}

// Of one layer's experts the one with the smallest count leaves first, so
// that only one expert a layer needs its distance computed.
std::optional<uint32_t> Efd::victim(std::span<const uint8_t> evictable) {
  find_least(evictable);
  std::optional<uint32_t> victim;
  double farthest = 0;
  for (uint32_t layer = 0; layer < shape_.layers; ++layer) {
    const auto [count, slot] = least_[layer];
    if (slot == kNoSlot) {
      continue;
    }
    const double distance = expected_distance(layer, count);
    if (!victim || distance > farthest) {
      victim = slot;
      farthest = distance;
    }
  }
  if (!victim && least_.back().slot != kNoSlot) {
    victim = least_.back().slot;
  }
  return victim;
}

void Efd::find_least(std::span<const uint8_t> evictable) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  std::fill(least_.begin(), least_.end(), Least{kInfinite, kNoSlot});
  const auto slots = static_cast<uint32_t>(slots_.size());
  for (uint32_t i = 0; i < slots; ++i) {
    const Slot slot = slots_[i];
    const double count = counts_[slot.index];
    // Nearly always so; what is rare is looked at after that.
    if (count >= least_[slot.layer].count || !evictable[i]) {
      continue;
    }
    const bool in_use = slot.layer == layer_ && last_step_[slot.index] == step_;
    Least& least = in_use ? least_.back() : least_[slot.layer];
    if (count < least.count) {
      least = {count, i};
    }
  }
}

double Efd::expected_distance(uint32_t layer, double count) const {
  const double seen = kFade * count / growth_;
  const double uniform =
      static_cast<double>(shape_.experts_per_token) / shape_.experts;
  const double p = kObserved * seen + (1 - kObserved) * uniform;
  const uint32_t cycle = layer > layer_ ? 0 : shape_.layers;
  return (layer + cycle - layer_) + shape_.layers * (1 / p - 1);
}

// Moves the base of the counts to the present. The factor is a power of two:
// nothing is rounded.
void Efd::rebase() {
  const uint64_t shift = (tokens_ - base_tokens_) / kHalfLifeTokens;
  const int exponent = -static_cast<int>(std::min<uint64_t>(shift, 1 << 20));
  for (double& count : counts_) {
    count = std::ldexp(count, exponent);
  }
  base_tokens_ += shift * kHalfLifeTokens;
}

size_t Efd::index(ExpertKey key) const {
  MLX_FLASH_DCHECK(key.layer < shape_.layers && key.expert < shape_.experts);
  return static_cast<size_t>(key.layer) * shape_.experts + key.expert;
}

} // namespace mlx_flash
