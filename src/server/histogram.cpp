#include "server/histogram.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace mlx_flash::server {

Histogram::Histogram(std::initializer_list<double> bounds)
    : bounds_(bounds), counts_(bounds.size() + 1) {
  MLX_FLASH_CHECK(std::is_sorted(bounds_.begin(), bounds_.end()));
}

void Histogram::observe(double value) {
  if (!std::isfinite(value)) {
    return;
  }
  value = std::max(value, 0.0);
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(bound - bounds_.begin())];
  sum_ += value;
}

} // namespace mlx_flash::server
