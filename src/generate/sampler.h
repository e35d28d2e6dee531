// Picks the next token of one sequence from its logits. It knows nothing of
// text or of where a generation ends (generate/stop_strings.h, the engine).
//
// The order is the one that SamplingOptions states, after tokens outside the
// grammar's mask have been removed. Probabilities are kept as integers in units
// of 2^-40 of the most probable token's, so sums are exact in any order, and a
// seed gives the same tokens on every platform for the same logits. A token
// below one such unit, 1e-12, is never picked.
//
// Thread rule: one thread at a time, for all samplers that share scratch space.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/rng.h"
#include "mlx_flash/generation.h"

namespace mlx_flash {

// What choosing among tokens takes: up to 32 bytes for each of the vocabulary,
// none of them when greedy. Allocates nothing after the first token.
class SamplerScratch {
 private:
  friend class Sampler;
  struct Candidate {
    float logit;
    TokenId id;
    uint64_t weight; // 1 << 40 for the most probable
  };
  std::vector<Candidate> candidates; // in the order of their ids
  std::vector<Candidate> boundary; // scratch of worst_kept()
};

class Sampler {
 public:
  // Throws what validate() throws. Null: scratch space of its own.
  explicit Sampler(
      const SamplingOptions& options,
      std::shared_ptr<SamplerScratch> scratch = nullptr);

  // Tells the sampler of a token of the sequence, for the penalties. `token` is
  // in the vocabulary.
  void accept_prompt(TokenId token);
  void accept(TokenId token);

  // The next token for `logits` [vocabulary, below 2^24], which are scratch
  // space and modified. `allowed` has one bit per token, 32 in a word and the
  // lowest first; empty allows all. Ties go to the lower id. Does not accept()
  // the token. Empty when no allowed logit is a number above -infinity.
  std::optional<TokenId> sample(
      std::span<float> logits,
      std::span<const uint32_t> allowed = {});

 private:
  using Candidate = SamplerScratch::Candidate;
  static bool better(const Candidate& a, const Candidate& b);

  void add_biases(std::span<float> logits) const;
  void penalise_repetition(std::span<float> logits);
  void penalise_generated(std::span<float> logits) const;
  void collect(std::span<const float> logits, float best);
  template <typename Mass>
  void keep_best(uint64_t needed, Mass mass);
  template <typename Mass>
  Candidate worst_kept(uint64_t needed, Mass mass);
  void keep_top_p();
  void keep_min_p();
  TokenId draw();

  const SamplingOptions options_;
  Rng rng_;
  std::vector<uint32_t> seen_; // one bit per token
  std::unordered_map<TokenId, uint32_t> generated_; // how often
  const std::shared_ptr<SamplerScratch> scratch_;
  std::vector<Candidate>& candidates_ = scratch_->candidates;
  std::vector<Candidate>& boundary_ = scratch_->boundary;
};

} // namespace mlx_flash
