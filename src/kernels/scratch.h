// Working memory of the kernels, grown once and reused.
//
// Thread rule: belongs to the thread that starts parallel regions; a kernel
// hands out disjoint parts to its workers.
#pragma once

#include <cstddef>
#include <vector>

namespace mlx_flash::kernels {

class Scratch {
 public:
  // At least `floats` floats, 64-byte aligned, contents undefined. Valid until
  // the next call.
  float* reserve(size_t floats) {
    constexpr size_t kLine = 64 / sizeof(float);
    if (memory_.size() < floats + kLine) {
      memory_ = {}; // not both at once
      memory_.resize(floats + kLine);
    }
    const auto address = reinterpret_cast<size_t>(memory_.data());
    return memory_.data() + ((64 - address % 64) % 64) / sizeof(float);
  }

  size_t bytes() const {
    return memory_.capacity() * sizeof(float);
  }

 private:
  std::vector<float> memory_;
};

} // namespace mlx_flash::kernels
