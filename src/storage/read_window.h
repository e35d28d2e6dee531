// How a read of any alignment becomes reads that a device takes: windows that
// begin and end at multiples of the device's alignment, of at most one staging
// block each. No I/O.
//
// Thread rule: values; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace mlx_flash {

// One read of a device.
struct Window {
  uint64_t offset = 0; // in the file, aligned
  uint64_t bytes = 0; // a multiple of the alignment
  // What was asked for is `dest.size()` bytes, `skip` bytes into the window.
  uint64_t skip = 0;
  std::span<std::byte> dest;
  // The device reads straight into `dest` and what is around it in the window;
  // otherwise into a staging block, from which it is copied.
  bool straight = false;
};

// Cuts [offset, offset + dest.size()) of a file into windows, in order.
class WindowCutter {
 public:
  WindowCutter() = default;
  // `alignment` is a power of two that divides `block_bytes`; `room` as in
  // ReadRequest.
  WindowCutter(
      uint64_t offset,
      std::span<std::byte> dest,
      uint64_t alignment,
      uint64_t block_bytes,
      uint64_t room = 1);

  bool done() const {
    return dest_.empty();
  }
  // Only while not done. Where file offset and address are both aligned, as
  // many whole blocks as there are go straight into `dest`; where they are
  // equally far from that and there is room, all does.
  Window next();

 private:
  uint64_t offset_ = 0;
  std::span<std::byte> dest_;
  uint64_t alignment_ = 1;
  uint64_t block_bytes_ = 1;
  uint64_t room_ = 1;
};

// One window on its way: takes the results of system calls until all of what
// was asked for is there.
class WindowRead {
 public:
  enum class State : uint8_t { again, done, failed };

  WindowRead() = default;
  // `staging` holds at least `window.bytes`, unless the window is straight.
  WindowRead(const Window& window, uint64_t alignment, std::byte* staging);

  // What to read next.
  uint64_t offset() const {
    return window_.offset + start();
  }
  std::span<std::byte> target() const {
    return {buffer_ + start(), window_.bytes - start()};
  }

  // `result` is what the read of target() at offset() returned: bytes, or
  // -errno. A short read goes on where it ended (at the aligned byte before),
  // an interrupted one is tried again, and the end of the file is an error
  // unless everything asked for has come.
  State advance(int64_t result);

  // After State::failed: the cause.
  const std::string& cause() const {
    return cause_;
  }

  // After State::done: copies from staging, unless the window is straight.
  void deliver() const;

 private:
  uint64_t start() const {
    return have_ & ~(alignment_ - 1);
  }
  State fail_with(std::string cause);

  Window window_;
  uint64_t alignment_ = 1;
  std::byte* buffer_ = nullptr;
  uint64_t have_ = 0; // bytes of the window that have come
  int retries_ = 0;
  std::string cause_;
};

} // namespace mlx_flash
