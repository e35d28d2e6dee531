// Memory that MLX allocated and that reads can land in: the bytes half fills
// it through span(), the tensor half sees arrays over it, and nothing is
// copied in between, on a CPU or in unified memory.
//
// The buffer is written behind MLX's back. That is safe because arrays made
// by array() are leaves that nobody donates or updates, and because steps wait
// for reads before they use them.
//
// Thread rule: as MLX: one thread at a time (mlx-flash: the engine thread).
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <span>

namespace mlx_flash::ops {

namespace mx = mlx::core;

class DeviceBuffer {
 public:
  // `bytes` usable bytes, starting at a multiple of `alignment` (a power of
  // two up to 16384). Untouched memory costs nothing until it is written.
  explicit DeviceBuffer(size_t bytes, size_t alignment = 64);

  // `bytes` of this one from `offset` on, a multiple of 64.
  DeviceBuffer part(size_t offset, size_t bytes) const;

  std::span<std::byte> span() const {
    return {data_, bytes_};
  }
  std::byte* data() const {
    return data_;
  }

  // An array over the bytes from `offset` on, without a copy. `offset` is a
  // multiple of the element size. `strides` are in elements; empty for a
  // row-contiguous array. The memory lives as long as any array over it.
  mx::array array(
      size_t offset,
      mx::Shape shape,
      mx::Dtype dtype,
      mx::Strides strides = {}) const;

 private:
  DeviceBuffer(mx::array base, size_t start, size_t bytes);

  mx::array base_; // owns the allocation
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  size_t start_ = 0; // of data_ in the allocation
};

} // namespace mlx_flash::ops
