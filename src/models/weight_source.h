// How a model gets its dense weights. The engine implements it over a
// checkpoint; models never see files.
//
// Thread rule: the engine thread, while a model is being constructed.
#pragma once

#include <mlx/array.h>

#include <string>

#include "ops/linear.h"

namespace mlx_flash {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // "<module>.weight", quantised or not, [out, in]. Throws Error(bad_model)
  // when it is missing or has another shape, and Error(io) when it cannot be
  // read.
  virtual ops::Linear
  linear(const std::string& module, int64_t out, int64_t in) = 0;

  // The vector `name` [n], converted to f32. Throws as above.
  virtual ops::mx::array vector(const std::string& name, int64_t n) = 0;
};

} // namespace mlx_flash
