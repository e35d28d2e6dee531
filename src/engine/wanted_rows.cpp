#include "engine/wanted_rows.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>

namespace mlx_flash {

namespace mx = ops::mx;

std::span<float> WantedRows::values(size_t i) {
  if (!values_ || i >= first_ + at_once_) {
    compute(i);
  }
  const auto width = static_cast<size_t>(values_->shape(1));
  return {values_->data<float>() + (i - first_) * width, width};
}

void WantedRows::compute(size_t first) {
  std::vector<int32_t> rows;
  for (size_t i = first; i < std::min(first + at_once_, rows_.size()); ++i) {
    rows.push_back(rows_[i].in_batch);
  }
  values_ = mx::astype(
      what_ == What::states ? model_.states(hidden_, rows)
                            : model_.logits(hidden_, rows),
      mx::float32);
  mx::eval(*values_);
  first_ = first;
}

} // namespace mlx_flash
