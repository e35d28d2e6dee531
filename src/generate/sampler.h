// Picks the next token of one sequence from its logits. It knows nothing of
// text or of where a generation ends (generate/stop_strings.h, the engine).
//
// The order is the one that SamplingOptions states: tokens outside the
// grammar's mask are removed, repeated ones are penalised, then temperature,
// top-k, top-p and min-p. Probabilities are kept as integers in units of
// 2^-40 of the most probable token's, so sums are exact in any order, and a
// seed gives the same tokens on every platform for the same logits. A token
// below one such unit, 1e-12, is never picked.
//
// Holds up to 33 bytes for each token of the vocabulary, none of them when
// greedy without a penalty, and allocates nothing after the first token.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/rng.h"
#include "mlx_flash/generation.h"

namespace mlx_flash {

class Sampler {
 public:
  // Throws what validate() throws.
  explicit Sampler(const SamplingOptions& options);

  // Tells the sampler of a token of the sequence, from the prompt or
  // generated, for the repetition penalty. `token` is in the vocabulary.
  void accept(TokenId token);

  // The next token for `logits` [vocabulary, below 2^24], which are scratch
  // space and modified. `allowed` has one bit per token, 32 in a word and the
  // lowest first; empty allows all. Ties go to the lower id. Does not accept()
  // the token. Empty when no allowed logit is a number above -infinity.
  std::optional<TokenId> sample(
      std::span<float> logits,
      std::span<const uint32_t> allowed = {});

 private:
  struct Candidate {
    float logit;
    TokenId id;
    uint64_t weight; // 1 << 40 for the most probable
  };
  static bool better(const Candidate& a, const Candidate& b);

  void penalise(std::span<float> logits);
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
  std::vector<Candidate> candidates_; // in the order of their ids
  std::vector<Candidate> boundary_; // scratch of worst_kept()
};

} // namespace mlx_flash
