// An embedding while its text is read: takes the states behind the tokens one
// by one, in their order, so that the sum has the same bits however many come
// at once. Not the file that says how (embedding_config.h).
//
// Thread rule: one thread at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mlx_flash/embedding.h"

namespace mlx_flash {

class PooledStates {
 public:
  // The form has a pooling.
  explicit PooledStates(const EmbeddingForm& form) : form_(form) {}

  // The states behind all tokens are to be added, else only that behind the
  // last one.
  bool wants_all() const {
    return form_.pooling == Pooling::mean;
  }

  void add(std::span<const float> state);

  // At least one was added. Throws Error(bad_model) where states are no
  // numbers.
  std::vector<float> result() const;

 private:
  const EmbeddingForm form_;
  std::vector<double> sum_;
  size_t count_ = 0;
};

} // namespace mlx_flash
