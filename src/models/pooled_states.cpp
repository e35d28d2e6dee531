#include "models/pooled_states.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"

namespace mlx_flash {

void PooledStates::add(std::span<const float> state) {
  sum_.resize(state.size());
  for (size_t i = 0; i < state.size(); ++i) {
    sum_[i] += double{state[i]};
  }
  ++count_;
}

std::vector<float> PooledStates::result() const {
  MLX_FLASH_CHECK(count_ > 0);
  double divisor = static_cast<double>(count_);
  double squares = 0;
  for (const double each : sum_) {
    squares += each * each;
  }
  if (!std::isfinite(squares)) {
    fail(
        ErrorCode::bad_model,
        "[embedding] the states behind the text are not numbers; are the "
        "weights damaged?");
  }
  if (form_.normalized) { // a sum and a mean have the same direction
    constexpr double kLeast = 1e-12; // as sentence-transformers has it
    divisor = std::max(std::sqrt(squares), kLeast);
  }
  std::vector<float> embedding(sum_.size());
  for (size_t i = 0; i < sum_.size(); ++i) {
    embedding[i] = static_cast<float>(sum_[i] / divisor);
  }
  return embedding;
}

} // namespace mlx_flash
