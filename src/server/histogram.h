// How often values fell between fixed bounds.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace mlx_flash::server {

class Histogram {
 public:
  // In rising order.
  Histogram(std::initializer_list<double> bounds);

  // Values below 0 count as 0, so that the sum never falls; what is no finite
  // number is not counted.
  void observe(double value);

  const std::vector<double>& bounds() const {
    return bounds_;
  }
  // Of values up to bound i and above the one before it; one more than
  // bounds, for what is above all.
  const std::vector<uint64_t>& counts() const {
    return counts_;
  }
  double sum() const {
    return sum_;
  }

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

} // namespace mlx_flash::server
