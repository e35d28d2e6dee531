// A file opened for reading around the page cache: O_DIRECT on Linux,
// F_NOCACHE on macOS. Where a file system refuses O_DIRECT (tmpfs), reads are
// buffered and what they leave in the page cache is dropped at once;
// is_direct() says so.
//
// Thread rule: immutable after open; read_at may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace mlx_flash {

class DirectFile {
 public:
  // Throws Error(not_found | io). Only regular files are accepted; symbolic
  // links to them are followed. Pages of the file that are in the page cache
  // already, and that nobody maps, are dropped: memory has one owner.
  explicit DirectFile(std::filesystem::path path);
  ~DirectFile();
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }
  uint64_t size() const {
    return size_;
  }
  // Offset, length and address of a direct read must be multiples of this
  // (a power of two; 1 where there is no such rule).
  uint32_t alignment() const {
    return alignment_;
  }
  bool is_direct() const {
    return direct_;
  }
  int descriptor() const {
    return fd_;
  }

  // One read system call. `offset`, `dest.data()` and `dest.size()` are
  // multiples of alignment(). Returns the bytes read, which may be fewer than
  // asked for (0 at the end of the file), or -errno.
  int64_t read_at(uint64_t offset, std::span<std::byte> dest) const;

  // Reads [offset, offset + dest.size()) whatever its alignment, through a
  // bounce buffer of its own. For headers, not for the token path. Throws
  // Error(io) naming file, offset and cause.
  void read_exactly(uint64_t offset, std::span<std::byte> dest) const;

  // Drops this file's clean pages from the page cache: those that hold a byte
  // of [offset, offset + bytes), or all with bytes = 0.
  void drop_cache(uint64_t offset = 0, uint64_t bytes = 0) const;

 private:
  std::filesystem::path path_;
  uint64_t size_ = 0;
  uint32_t alignment_ = 1;
  int fd_ = -1;
  bool direct_ = false;
};

// Bytes of `path` that are in the page cache now (mincore), in whole pages.
// For tests and diagnosis: Linux tells it to the file's owner and to root
// only, and calls every page cached for others. Throws Error(not_found | io).
uint64_t page_cache_bytes(const std::filesystem::path& path);

} // namespace mlx_flash
