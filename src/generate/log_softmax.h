// Log-probabilities of one row of logits, in double and without overflow
// whatever the size of the logits. Sampling does not use it
// (generate/sampler.h).
//
// Thread rule: immutable; reads the logits it was made of, which must outlive
// it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "mlx_flash/generation.h"

namespace mlx_flash {

class LogSoftmax {
 public:
  // Empty for logits [vocabulary] that have no log-probabilities: with a NaN
  // or +infinity among them, or nothing above -infinity.
  static std::optional<LogSoftmax> of(std::span<const float> logits);

  // `id` is in the vocabulary. -infinity for a logit of -infinity.
  double logprob(TokenId id) const {
    return static_cast<double>(logits_[id]) - log_total_;
  }

  // The `count` most probable tokens, or all if there are fewer; best first,
  // ties by id.
  std::vector<TokenLogprob> top(size_t count) const;

 private:
  LogSoftmax(std::span<const float> logits, double log_total)
      : logits_(logits), log_total_(log_total) {}

  std::span<const float> logits_;
  double log_total_; // log of the sum of exp(logit)
};

} // namespace mlx_flash
