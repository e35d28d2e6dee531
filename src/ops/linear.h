// The weights of a linear layer, in the two forms the back-ends use.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <string>

#include "kernels/matrix.h"
#include "ops/device_buffer.h"

namespace mlx_flash::ops {

// Where a matrix's arrays are, relative to the start of some memory.
struct MatrixPlace {
  kernels::Matrix matrix; // type and shape; its pointers are not used
  size_t weight_offset = 0;
  size_t scales_offset = 0; // quantised
  size_t biases_offset = 0; // affine

  // The matrix whose memory starts at `base`.
  kernels::Matrix at(const std::byte* base) const {
    kernels::Matrix m = matrix;
    m.weight = base + weight_offset;
    if (kernels::is_quantised(m)) {
      m.scales = base + scales_offset;
    }
    if (m.type == kernels::WeightType::affine) {
      m.biases = base + biases_offset;
    }
    return m;
  }
};

// One matrix in memory of its own. Copies share the memory.
struct Linear {
  DeviceBuffer memory;
  MatrixPlace place;

  kernels::Matrix matrix() const {
    return place.at(memory.data());
  }
};

// A dense MLP: gate and up are [inner, hidden], down is [hidden, inner].
struct SwigluMlp {
  Linear gate;
  Linear up;
  Linear down;
};

// The arrays of `count` equal matrices, `pitch` bytes apart, as MLX sees them:
// weight [count, out, words], scales and biases [count, out, groups]. Without
// `count` dimensions when count is 0 (one matrix).
struct MatrixArrays {
  mx::array weight;
  std::optional<mx::array> scales; // quantised
  std::optional<mx::array> biases; // affine
};
MatrixArrays matrix_arrays(
    const DeviceBuffer& memory,
    const MatrixPlace& place,
    size_t count = 0,
    size_t pitch = 0);

mx::Dtype mlx_dtype(kernels::WeightType type);
mx::Dtype mlx_dtype(kernels::ScaleType type);
// MLX's name for the way a quantised type is packed.
std::string mlx_mode(kernels::WeightType type);

} // namespace mlx_flash::ops
