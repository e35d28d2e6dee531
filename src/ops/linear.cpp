#include "ops/linear.h"

#include "base/check.h"

namespace mlx_flash::ops {

mx::Dtype mlx_dtype(kernels::WeightType type) {
  switch (type) {
    case kernels::WeightType::f32:
      return mx::float32;
    case kernels::WeightType::f16:
      return mx::float16;
    case kernels::WeightType::bf16:
      return mx::bfloat16;
    case kernels::WeightType::affine:
    case kernels::WeightType::mxfp4:
      return mx::uint32;
  }
  return mx::float32;
}

mx::Dtype mlx_dtype(kernels::ScaleType type) {
  switch (type) {
    case kernels::ScaleType::f32:
      return mx::float32;
    case kernels::ScaleType::f16:
      return mx::float16;
    case kernels::ScaleType::bf16:
      return mx::bfloat16;
    case kernels::ScaleType::e8m0:
      return mx::uint8;
  }
  return mx::float32;
}

std::string mlx_mode(kernels::WeightType type) {
  return type == kernels::WeightType::mxfp4 ? "mxfp4" : "affine";
}

namespace {

mx::array one_array(
    const DeviceBuffer& memory,
    size_t offset,
    int out,
    int columns,
    mx::Dtype dtype,
    size_t count,
    size_t pitch) {
  if (count == 0) {
    return memory.array(offset, {out, columns}, dtype);
  }
  const size_t item = mx::size_of(dtype);
  MLX_FLASH_CHECK(pitch % item == 0 && offset % item == 0);
  return memory.array(
      offset,
      {static_cast<int>(count), out, columns},
      dtype,
      {static_cast<int64_t>(pitch / item), columns, 1});
}

} // namespace

MatrixArrays matrix_arrays(
    const DeviceBuffer& memory,
    const MatrixPlace& place,
    size_t count,
    size_t pitch) {
  const kernels::Matrix& m = place.matrix;
  const bool quantised = kernels::is_quantised(m);
  const int out = static_cast<int>(m.out);
  const int words = static_cast<int>(quantised ? m.in * m.bits / 32 : m.in);
  MatrixArrays arrays{
      one_array(
          memory,
          place.weight_offset,
          out,
          words,
          mlx_dtype(m.type),
          count,
          pitch),
      std::nullopt,
      std::nullopt};
  if (!quantised) {
    return arrays;
  }
  const int groups = static_cast<int>(m.in / m.group_size);
  const auto dtype = mlx_dtype(m.scale_type);
  arrays.scales =
      one_array(memory, place.scales_offset, out, groups, dtype, count, pitch);
  if (m.type == kernels::WeightType::affine) {
    arrays.biases = one_array(
        memory, place.biases_offset, out, groups, dtype, count, pitch);
  }
  return arrays;
}

} // namespace mlx_flash::ops
