// Page-aligned anonymous memory of a fixed size, zero-filled, returned to the
// operating system on destruction.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace mlx_flash {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  // Rounded up to whole pages. Throws Error(out_of_budget) when the system
  // refuses.
  explicit AlignedBuffer(size_t bytes);
  ~AlignedBuffer();

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const {
    return data_;
  }
  size_t size() const {
    return bytes_;
  }
  std::span<std::byte> span() const {
    return {data_, bytes_};
  }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

} // namespace mlx_flash
