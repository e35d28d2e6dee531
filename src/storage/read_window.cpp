#include "storage/read_window.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/align.h"

namespace mlx_flash {

namespace {

// A device that is interrupted this often in a row will not answer.
constexpr int kMaxRetries = 1000;

} // namespace

WindowCutter::WindowCutter(
    uint64_t offset,
    std::span<std::byte> dest,
    uint64_t alignment,
    uint64_t block_bytes,
    uint64_t room)
    : offset_(offset),
      dest_(dest),
      alignment_(alignment),
      block_bytes_(block_bytes),
      room_(room) {}

Window WindowCutter::next() {
  const auto address = reinterpret_cast<uintptr_t>(dest_.data());
  const uint64_t misaligned = (offset_ | address) & (alignment_ - 1);
  const bool fits =
      room_ >= alignment_ && ((offset_ ^ address) & (alignment_ - 1)) == 0;
  Window window;
  if (misaligned == 0 && dest_.size() >= alignment_ && !fits) {
    window.straight = true;
    window.offset = offset_;
    window.bytes = std::min(round_down(dest_.size(), alignment_), block_bytes_);
    window.dest = dest_.first(window.bytes);
  } else {
    window.straight = fits;
    window.offset = round_down(offset_, alignment_);
    window.skip = offset_ - window.offset;
    const uint64_t end = round_up(offset_ + dest_.size(), alignment_);
    window.bytes = std::min(end - window.offset, block_bytes_);
    window.dest = dest_.first(
        std::min<uint64_t>(window.bytes - window.skip, dest_.size()));
  }
  offset_ += window.dest.size();
  dest_ = dest_.subspan(window.dest.size());
  return window;
}

WindowRead::WindowRead(
    const Window& window,
    uint64_t alignment,
    std::byte* staging)
    : window_(window),
      alignment_(alignment),
      buffer_(window.straight ? window.dest.data() - window.skip : staging) {}

WindowRead::State WindowRead::fail_with(std::string cause) {
  cause_ = std::move(cause);
  return State::failed;
}

WindowRead::State WindowRead::advance(int64_t result) {
  if (result == -EINTR || result == -EAGAIN) {
    return ++retries_ > kMaxRetries
        ? fail_with("interrupted over and over again")
        : State::again;
  }
  if (result < 0) {
    return fail_with(std::strerror(static_cast<int>(-result)));
  }
  retries_ = 0;
  const uint64_t end = start() + static_cast<uint64_t>(result);
  if (end >= window_.skip + window_.dest.size()) {
    return State::done;
  }
  if (end <= have_) {
    return fail_with(
        "the file is cut short, with nothing at byte " +
        std::to_string(window_.offset + have_));
  }
  have_ = end;
  return State::again;
}

void WindowRead::deliver() const {
  if (!window_.straight) {
    std::memcpy(
        window_.dest.data(), buffer_ + window_.skip, window_.dest.size());
  }
}

} // namespace mlx_flash
