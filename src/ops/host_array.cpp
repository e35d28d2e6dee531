#include "ops/host_array.h"

#include "base/check.h"
#include "ops/allocate.h"

namespace mlx_flash::ops {

mx::array new_array(
    mx::Shape shape,
    mx::Dtype dtype,
    const std::shared_ptr<BlockCache>& blocks) {
  size_t bytes = mx::size_of(dtype);
  for (const auto dimension : shape) {
    bytes *= static_cast<size_t>(dimension);
  }
  if (bytes < BlockCache::kLeastBytes) {
    return mx::array(allocate(bytes), std::move(shape), dtype);
  }
  return mx::array(
      mx::allocator::Data(
          blocks->take(bytes),
          [blocks, bytes](mx::allocator::Buffer block) {
            blocks->give_back(block, bytes);
          }),
      std::move(shape),
      dtype);
}

const float* floats_of(const mx::array& x) {
  MLX_FLASH_CHECK(
      x.is_available() && x.flags().row_contiguous && x.dtype() == mx::float32);
  return x.data<float>();
}

} // namespace mlx_flash::ops
