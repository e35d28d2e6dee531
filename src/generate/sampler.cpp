#include "generate/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace mlx_flash {

namespace {

constexpr int kWeightBits = 40;
constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// 2^-x for 0 <= x <= kWeightBits, as an integer in units of 2^-40.
//
// Only multiplications and square roots of doubles are used, which IEEE 754
// defines to the bit. std::exp differs between C libraries, and a polynomial
// between processors with and without fused multiply-add.
class PowerTable {
 public:
  PowerTable() {
    double root = 0.5; // 2^-(1/2), then 2^-(1/4), ...
    for (size_t bit = 0; bit < kBits * kTables; ++bit) {
      root = std::sqrt(root);
      auto& table = tables_[bit / kBits];
      const size_t mask = kSize >> (bit % kBits + 1);
      for (size_t i = 0; i < kSize; ++i) {
        const double factor = (i & mask) != 0 ? root : 1.0;
        table[i] = bit % kBits == 0 ? factor : table[i] * factor;
      }
    }
  }

  uint64_t weight(double x) const {
    constexpr double kOne = 1ull << (kBits * kTables);
    const auto fixed = static_cast<uint64_t>(x * kOne);
    double result = kScale;
    for (size_t i = 0; i < kTables; ++i) {
      const size_t shift = kBits * (kTables - 1 - i);
      result *= tables_[i][(fixed >> shift) & (kSize - 1)];
    }
    const auto halvings = static_cast<int>(fixed >> (kBits * kTables));
    return static_cast<uint64_t>(result) >> halvings;
  }

 private:
  static constexpr size_t kBits = 8;
  static constexpr size_t kSize = size_t{1} << kBits;
  static constexpr size_t kTables = 4;
  static constexpr double kScale = 1ull << kWeightBits;
  std::array<std::array<double, kSize>, kTables> tables_;
};

const PowerTable& power_table() {
  static const PowerTable table;
  return table;
}

// Removes what the mask does not allow. Tokens beyond the mask are padding of
// the logits and no tokens at all.
void apply_mask(std::span<float> logits, std::span<const uint32_t> allowed) {
  if (allowed.empty()) {
    return;
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    const uint32_t word = i / 32 < allowed.size() ? allowed[i / 32] : 0;
    logits[i] = (word >> (i % 32) & 1) != 0 ? logits[i] : kImpossible;
  }
}

// The largest number; -infinity when there is none. The comparison leaves a
// NaN out, and eight running maxima let the compiler use vectors.
float largest(std::span<const float> logits) {
  std::array<float, 8> best;
  best.fill(kImpossible);
  size_t i = 0;
  for (; i + best.size() <= logits.size(); i += best.size()) {
    for (size_t lane = 0; lane < best.size(); ++lane) {
      const float x = logits[i + lane];
      best[lane] = x > best[lane] ? x : best[lane];
    }
  }
  for (; i < logits.size(); ++i) {
    best[0] = logits[i] > best[0] ? logits[i] : best[0];
  }
  return *std::max_element(best.begin(), best.end());
}

} // namespace

Sampler::Sampler(
    const SamplingOptions& options,
    std::shared_ptr<SamplerScratch> scratch)
    : options_(options),
      rng_(options.seed),
      scratch_(scratch ? scratch : std::make_shared<SamplerScratch>()) {
  validate(options);
}

void Sampler::accept(TokenId token) {
  accept_prompt(token);
  if (options_.presence_penalty != 0 || options_.frequency_penalty != 0) {
    ++generated_[token];
  }
}

void Sampler::accept_prompt(TokenId token) {
  if (options_.repetition_penalty == 1) {
    return;
  }
  const size_t word = token / 32;
  if (word >= seen_.size()) {
    seen_.resize(word + 1);
  }
  seen_[word] |= 1u << (token % 32);
}

std::optional<TokenId> Sampler::sample(
    std::span<float> logits,
    std::span<const uint32_t> allowed) {
  apply_mask(logits, allowed);
  add_biases(logits);
  penalise_repetition(logits);
  penalise_generated(logits);
  const float best = largest(logits);
  if (best == kImpossible) {
    return std::nullopt;
  }
  if (options_.temperature == 0 || options_.top_k == 1) {
    const auto first = std::find(logits.begin(), logits.end(), best);
    return static_cast<TokenId>(first - logits.begin());
  }
  collect(logits, best);
  if (options_.top_k > 0) {
    keep_best(options_.top_k, [](const Candidate&) { return 1; });
  }
  keep_top_p();
  keep_min_p();
  return draw();
}

void Sampler::add_biases(std::span<float> logits) const {
  for (const LogitBias& each : options_.logit_bias) {
    if (each.id < logits.size()) {
      logits[each.id] += each.bias;
    }
  }
}

void Sampler::penalise_generated(std::span<float> logits) const {
  for (const auto& [id, count] : generated_) {
    if (id < logits.size()) {
      logits[id] -= options_.presence_penalty +
          options_.frequency_penalty * static_cast<float>(count);
    }
  }
}

void Sampler::penalise_repetition(std::span<float> logits) {
  if (options_.repetition_penalty == 1) {
    return;
  }
  // Room for every token, so that accept() allocates no more.
  seen_.resize(std::max(seen_.size(), logits.size() / 32 + 1));
  for (size_t word = 0; word < seen_.size(); ++word) {
    for (uint32_t bits = seen_[word]; bits != 0; bits &= bits - 1) {
      const size_t id = word * 32 + std::countr_zero(bits);
      if (id >= logits.size()) {
        return;
      }
      const float penalty = options_.repetition_penalty;
      logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
  }
}

// The order of preference: by logit, ties by id.
bool Sampler::better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Applies the temperature: candidates_ becomes every token of at least one
// unit of probability.
void Sampler::collect(std::span<const float> logits, float best) {
  candidates_.reserve(logits.size());
  boundary_.reserve(logits.size());
  candidates_.clear();
  const PowerTable& table = power_table();
  const double halvings_per_logit =
      1.4426950408889634 / static_cast<double>(options_.temperature);
  for (size_t i = 0; i < logits.size(); ++i) {
    // Equal infinities have no difference.
    const double below =
        logits[i] == best ? 0.0 : static_cast<double>(best) - logits[i];
    const double halvings = below * halvings_per_logit;
    if (!(halvings <= kWeightBits)) {
      continue;
    }
    candidates_.push_back(
        {logits[i], static_cast<TokenId>(i), table.weight(halvings)});
  }
}

// Keeps the fewest best candidates whose masses add up to `needed`, or all
// when there is not that much. They stay in the order of their ids.
template <typename Mass>
void Sampler::keep_best(uint64_t needed, Mass mass) {
  const Candidate worst = worst_kept(needed, mass);
  std::erase_if(
      candidates_, [&](const Candidate& c) { return better(worst, c); });
}

// Candidates are first counted by the position of their weight's highest bit,
// so that only those of one such class need to be ordered. Within it the
// place is found by bisection, each time over half as many.
template <typename Mass>
Sampler::Candidate Sampler::worst_kept(uint64_t needed, Mass mass) {
  std::array<uint64_t, kWeightBits + 2> by_class{};
  for (const Candidate& c : candidates_) {
    by_class[std::bit_width(c.weight)] += mass(c);
  }
  int boundary_class = kWeightBits + 1;
  while (boundary_class > 1 && by_class[boundary_class] < needed) {
    needed -= by_class[boundary_class];
    --boundary_class;
  }
  boundary_.clear();
  for (const Candidate& c : candidates_) {
    if (static_cast<int>(std::bit_width(c.weight)) == boundary_class) {
      boundary_.push_back(c);
    }
  }
  if (boundary_.empty()) {
    return {kImpossible, std::numeric_limits<TokenId>::max(), 0};
  }
  size_t low = 0;
  size_t high = boundary_.size();
  while (high - low > 1) {
    const auto begin = boundary_.begin();
    const size_t middle = low + (high - low) / 2;
    std::nth_element(begin + low, begin + middle, begin + high, better);
    uint64_t upper = 0;
    for (size_t i = low; i < middle; ++i) {
      upper += mass(boundary_[i]);
    }
    if (upper >= needed) {
      high = middle;
    } else {
      needed -= upper;
      low = middle;
    }
  }
  return boundary_[low];
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) {
    return;
  }
  uint64_t total = 0;
  for (const Candidate& c : candidates_) {
    total += c.weight;
  }
  const auto share = static_cast<uint64_t>(
      static_cast<double>(total) * static_cast<double>(options_.top_p));
  keep_best(std::max<uint64_t>(1, share), [](const Candidate& c) {
    return c.weight;
  });
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0) {
    return;
  }
  // The best candidate has the weight 1, and no filter removes it.
  constexpr double kFull = 1ull << kWeightBits;
  const auto least =
      static_cast<uint64_t>(kFull * static_cast<double>(options_.min_p));
  std::erase_if(
      candidates_, [&](const Candidate& c) { return c.weight < least; });
}

TokenId Sampler::draw() {
  uint64_t total = 0;
  for (const Candidate& c : candidates_) {
    total += c.weight;
  }
  uint64_t left = rng_.below(total);
  for (const Candidate& c : candidates_) {
    if (left < c.weight) {
      return c.id;
    }
    left -= c.weight;
  }
  return candidates_.back().id;
}

} // namespace mlx_flash
