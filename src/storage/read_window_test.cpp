// A device is played by the test: it returns what a string of bytes has, and
// as few of them as the test likes.
#include "storage/read_window.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "base/aligned_buffer.h"
#include "base/rng.h"

using namespace mlx_flash;

namespace {

std::vector<std::byte> numbered(size_t size) {
  std::vector<std::byte> bytes(size);
  Rng rng(size);
  for (auto& byte : bytes) {
    byte = std::byte(rng.next() & 0xFF);
  }
  return bytes;
}

// What a read of the device may return: from 0 at the end of the file to all.
int64_t device_read(
    const std::vector<std::byte>& file,
    uint64_t offset,
    std::span<std::byte> target,
    uint64_t most) {
  const uint64_t there = offset < file.size() ? file.size() - offset : 0;
  const uint64_t bytes = std::min({there, uint64_t(target.size()), most});
  std::memcpy(target.data(), file.data() + offset, bytes);
  return static_cast<int64_t>(bytes);
}

} // namespace

TEST_CASE(
    "read window: windows are aligned, of at most a block, and cover "
    "what was asked for, in order") {
  const uint64_t seed = 21;
  CAPTURE(seed);
  Rng rng(seed);
  const AlignedBuffer memory(1 << 20);
  for (int i = 0; i < 5000; ++i) {
    const uint64_t alignment = uint64_t(1) << rng.below(13);
    const uint64_t block = 4096 << rng.below(4);
    const uint64_t offset = rng.below(100'000);
    const uint64_t size = 1 + rng.below(100'000);
    const uint64_t shift =
        rng.below(2) ? rng.below(8192) : alignment * rng.below(3);
    const auto dest = memory.span().subspan(shift, size);
    const uint64_t room = uint64_t(1) << rng.below(13);
    CAPTURE(alignment);
    CAPTURE(offset);
    CAPTURE(room);
    WindowCutter cutter(offset, dest, alignment, block, room);
    uint64_t at = offset;
    while (!cutter.done()) {
      const Window window = cutter.next();
      REQUIRE(window.offset % alignment == 0);
      REQUIRE(window.bytes % alignment == 0);
      REQUIRE(window.bytes > 0);
      REQUIRE(window.bytes <= block);
      REQUIRE_FALSE(window.dest.empty());
      REQUIRE(window.dest.data() == dest.data() + (at - offset));
      REQUIRE(window.offset + window.skip == at);
      REQUIRE(window.skip + window.dest.size() <= window.bytes);
      if (window.straight) {
        const auto address = reinterpret_cast<uintptr_t>(window.dest.data());
        REQUIRE((address - window.skip) % alignment == 0);
        const bool exact =
            window.skip == 0 && window.bytes == window.dest.size();
        const bool allowed = exact || room >= alignment;
        REQUIRE(allowed);
        // No further around `dest` than the alignment asks for.
        REQUIRE(window.skip < alignment);
        REQUIRE(window.bytes < window.skip + window.dest.size() + alignment);
      }
      at += window.dest.size();
    }
    REQUIRE(at == offset + size);
  }
}

TEST_CASE("read window: aligned reads go straight to their destination") {
  const AlignedBuffer memory(64 << 10);
  const auto straight =
      [&](uint64_t offset, size_t shift, size_t size, uint64_t room = 1) {
        const auto dest = memory.span().subspan(shift, size);
        WindowCutter cutter(offset, dest, 512, 16 << 10, room);
        uint64_t bytes = 0;
        while (!cutter.done()) {
          const Window window = cutter.next();
          bytes += window.straight ? window.dest.size() : 0;
        }
        return bytes;
      };
  CHECK(straight(4096, 512, 40'960) == 40'960);
  CHECK(straight(4096, 512, 40'961) == 40'960); // and the tail by staging
  CHECK(straight(4097, 512, 40'960) == 0);
  CHECK(straight(4096, 513, 40'960) == 0);
  CHECK(straight(0, 0, 511) == 0);
  // Alike, but not aligned: after the first window the rest is.
  CHECK(straight(4096 + 100, 100, 30'000) == 13'312);
  // Alike, with room around.
  CHECK(straight(4096 + 100, 612, 30'000, 512) == 30'000);
  CHECK(straight(4096 + 100, 612, 30'000, 4096) == 30'000);
  CHECK(straight(4096 + 100, 612, 100, 512) == 100);
  CHECK(straight(4096 + 100, 612, 30'000, 256) == 13'312);
  CHECK(straight(4096 + 101, 612, 30'000, 512) == 0);
}

TEST_CASE("read window: short and interrupted reads are continued") {
  const uint64_t seed = 22;
  CAPTURE(seed);
  Rng rng(seed);
  const auto file = numbered(70'001);
  const AlignedBuffer memory(96 << 10), staging(16 << 10);
  for (int i = 0; i < 3000; ++i) {
    const uint64_t alignment = rng.below(2) ? 512 : 1;
    const uint64_t offset = rng.below(file.size());
    const uint64_t size = 1 + rng.below(file.size() - offset);
    const bool alike = rng.below(2);
    const uint64_t shift = alike ? 512 + offset % 512 : rng.below(1024);
    const auto dest = memory.span().subspan(shift, size);
    std::fill(dest.begin(), dest.end(), std::byte(0xEE));
    WindowCutter cutter(offset, dest, alignment, 16 << 10, alike ? 512 : 1);
    while (!cutter.done()) {
      const Window window = cutter.next();
      std::fill_n(staging.data(), staging.size(), std::byte(0xDD));
      WindowRead read(window, alignment, staging.data());
      auto state = WindowRead::State::again;
      while (state == WindowRead::State::again) {
        REQUIRE(read.offset() % alignment == 0);
        REQUIRE(read.target().size() % alignment == 0);
        REQUIRE(
            reinterpret_cast<uintptr_t>(read.target().data()) % alignment == 0);
        // At least one unit comes, as a device in order gives; more at random.
        const uint64_t most = alignment + rng.below(window.bytes + 1);
        state = read.advance(
            rng.below(5) == 0
                ? (rng.below(2) ? -EINTR : -EAGAIN)
                : device_read(file, read.offset(), read.target(), most));
      }
      REQUIRE(state == WindowRead::State::done);
      read.deliver();
    }
    REQUIRE(std::memcmp(dest.data(), file.data() + offset, size) == 0);
  }
}

TEST_CASE("read window: the end of the file is an error that says where") {
  const auto file = numbered(5000);
  const AlignedBuffer memory(16 << 10), staging(16 << 10);
  WindowCutter cutter(600, memory.span().subspan(1, 6000), 512, 16 << 10);
  WindowRead read(cutter.next(), 512, staging.data());
  auto state = WindowRead::State::again;
  int calls = 0;
  while (state == WindowRead::State::again) {
    REQUIRE(++calls < 10);
    state = read.advance(
        device_read(file, read.offset(), read.target(), UINT64_MAX));
  }
  CHECK(state == WindowRead::State::failed);
  CHECK(read.cause() == "the file is cut short, with nothing at byte 5000");
}

TEST_CASE("read window: the last block of a file may be short") {
  const auto file = numbered(5000);
  const AlignedBuffer memory(16 << 10), staging(16 << 10);
  const auto dest = memory.span().subspan(3, 400);
  WindowCutter cutter(4600, dest, 512, 16 << 10);
  WindowRead read(cutter.next(), 512, staging.data());
  CHECK(
      read.advance(device_read(file, read.offset(), read.target(), 4096)) ==
      WindowRead::State::done);
  read.deliver();
  CHECK(std::memcmp(dest.data(), file.data() + 4600, 400) == 0);
  CHECK(cutter.done());
}

TEST_CASE("read window: errors end it, and so does endless interruption") {
  const AlignedBuffer memory(4096);
  const Window window{0, 512, 0, memory.span().first(512), true};
  WindowRead failed(window, 512, nullptr);
  CHECK(failed.advance(-EIO) == WindowRead::State::failed);
  CHECK(failed.cause() == std::strerror(EIO));

  WindowRead interrupted(window, 512, nullptr);
  auto state = WindowRead::State::again;
  int calls = 0;
  while (state == WindowRead::State::again) {
    REQUIRE(++calls < 100'000);
    state = interrupted.advance(-EINTR);
  }
  CHECK(state == WindowRead::State::failed);
}
