#include "ops/device_buffer.h"

#include "base/align.h"
#include "base/check.h"
#include "ops/allocate.h"

namespace mlx_flash::ops {

namespace {

mx::array allocate_array(size_t bytes) {
  // An MLX dimension is an int32, so large buffers count in larger units.
  const size_t unit = bytes < (size_t{64} << 30) ? 64 : size_t{1} << 20;
  const size_t units = div_up(bytes, unit);
  return mx::array(
      allocate(units * unit),
      {static_cast<int>(units), static_cast<int>(unit)},
      mx::uint8);
}

} // namespace

DeviceBuffer::DeviceBuffer(size_t bytes, size_t alignment)
    : base_(allocate_array(bytes + alignment)), bytes_(bytes) {
  auto* raw = base_.data<std::byte>();
  const auto address = reinterpret_cast<size_t>(raw);
  start_ = round_up(address, alignment) - address;
  data_ = raw + start_;
}

DeviceBuffer::DeviceBuffer(mx::array base, size_t start, size_t bytes)
    : base_(std::move(base)),
      data_(base_.data<std::byte>() + start),
      bytes_(bytes),
      start_(start) {}

DeviceBuffer DeviceBuffer::part(size_t offset, size_t bytes) const {
  MLX_FLASH_CHECK(
      offset % 64 == 0 && offset <= bytes_ && bytes <= bytes_ - offset);
  return DeviceBuffer(base_, start_ + offset, bytes);
}

mx::array DeviceBuffer::array(
    size_t offset,
    mx::Shape shape,
    mx::Dtype dtype,
    mx::Strides strides) const {
  const size_t item = mx::size_of(dtype);
  const bool contiguous = strides.empty();
  // MLX counts a view's offset in elements.
  MLX_FLASH_CHECK((start_ + offset) % item == 0);
  mx::array view(shape, dtype, nullptr, {});
  if (contiguous) {
    strides = view.strides();
  }
  size_t extent = 1; // elements from the first to the last
  for (size_t i = 0; i < shape.size(); ++i) {
    extent += static_cast<size_t>(shape[i] - 1) * strides[i];
  }
  MLX_FLASH_CHECK(view.size() == 0 || offset + extent * item <= bytes_);
  view.copy_shared_buffer(
      base_,
      strides,
      {contiguous, contiguous, contiguous && shape.size() <= 1},
      extent,
      static_cast<int64_t>((start_ + offset) / item));
  view.set_status(mx::array::Status::available);
  return view;
}

} // namespace mlx_flash::ops
