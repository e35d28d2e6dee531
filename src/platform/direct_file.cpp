#include "platform/direct_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/error.h"

namespace mlx_flash {

namespace {

uint64_t page_bytes() {
  static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

[[noreturn]] void
fail_on_file(const char* what, const std::filesystem::path& path, int cause) {
  fail(
      cause == ENOENT || cause == ENOTDIR ? ErrorCode::not_found
                                          : ErrorCode::io,
      "[file] cannot {} {}: {}",
      what,
      path.string(),
      std::strerror(cause));
}

int open_for_reading(const std::filesystem::path& path, int flags) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  return fd < 0 ? -errno : fd;
}

// Asked before the open: opening a pipe that bears the name of a model file
// would wait for a writer.
uint64_t regular_file_size(const std::filesystem::path& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    fail_on_file("open", path, errno);
  }
  if (!S_ISREG(info.st_mode)) {
    fail(
        ErrorCode::io,
        "[file] {} is not a regular file; weights are read from files only",
        path.string());
  }
  return static_cast<uint64_t>(info.st_size);
}

struct Opened {
  int fd = -1; // or -errno
  uint32_t alignment = 1;
  bool direct = false;
};

#ifdef __linux__

// What the kernel says, where it says it (6.1 and later, and not every file
// system): 0 when direct reads are not possible, empty when it is silent.
std::optional<uint32_t> told_alignment([[maybe_unused]] int fd) {
#ifdef STATX_DIOALIGN
  struct statx info;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN)) {
    const uint32_t most =
        std::max(info.stx_dio_mem_align, info.stx_dio_offset_align);
    const bool usable = info.stx_dio_offset_align != 0 &&
        std::has_single_bit(most) && most <= (1u << 20);
    return usable ? most : 0;
  }
#endif
  return std::nullopt;
}

// Tries real reads. 0 when none works.
uint32_t probe_alignment(int fd) {
  const AlignedBuffer buffer(2 * 4096);
  for (uint32_t alignment : {512u, 4096u}) {
    ssize_t n;
    do {
      // At an address that is no multiple of anything larger.
      n = ::pread(fd, buffer.data() + alignment, alignment, 0);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
      return alignment;
    }
  }
  return 0;
}

Opened open_direct(const std::filesystem::path& path, uint64_t size) {
  const int fd = open_for_reading(path, O_DIRECT);
  if (fd >= 0) {
    // Nothing is known about an empty file, and nothing is read from it.
    const auto told = told_alignment(fd);
    const uint32_t alignment =
        told ? *told : (size ? probe_alignment(fd) : 4096);
    if (alignment != 0) {
      return {fd, alignment, true};
    }
    ::close(fd);
  }
  const int buffered = open_for_reading(path, 0);
  if (buffered >= 0) {
    ::posix_fadvise(buffered, 0, 0, POSIX_FADV_RANDOM); // no read-ahead
  }
  return {buffered, 1, false};
}

#else

Opened open_direct(const std::filesystem::path& path, uint64_t) {
  const int fd = open_for_reading(path, 0);
#ifdef __APPLE__
  if (fd >= 0 && ::fcntl(fd, F_NOCACHE, 1) == 0) {
    // Parts of pages would go through the page cache in spite of F_NOCACHE.
    return {fd, static_cast<uint32_t>(page_bytes()), true};
  }
#endif
  return {fd, 1, false};
}

#endif

} // namespace

DirectFile::DirectFile(std::filesystem::path path)
    : path_(std::move(path)), size_(regular_file_size(path_)) {
  const Opened opened = open_direct(path_, size_);
  if (opened.fd < 0) {
    fail_on_file("open", path_, -opened.fd);
  }
  fd_ = opened.fd;
  alignment_ = opened.alignment;
  direct_ = opened.direct;
  drop_cache();
}

DirectFile::~DirectFile() {
  if (fd_ >= 0) {
    drop_cache();
    ::close(fd_);
  }
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)),
      size_(other.size_),
      alignment_(other.alignment_),
      fd_(std::exchange(other.fd_, -1)),
      direct_(other.direct_) {}

int64_t DirectFile::read_at(uint64_t offset, std::span<std::byte> dest) const {
  const ssize_t n =
      ::pread(fd_, dest.data(), dest.size(), static_cast<off_t>(offset));
  if (n < 0) {
    return -errno;
  }
  if (!direct_ && n > 0) {
    drop_cache(offset, static_cast<uint64_t>(n));
  }
  return n;
}

void DirectFile::read_exactly(uint64_t offset, std::span<std::byte> dest)
    const {
  const uint64_t begin = round_down(offset, alignment_);
  const uint64_t end = round_up(offset + dest.size(), alignment_);
  const AlignedBuffer bounce(std::min<uint64_t>(end - begin, 1 << 20));
  uint64_t done = 0;
  while (done < dest.size()) {
    const uint64_t at = round_down(offset + done, alignment_);
    const uint64_t bytes = std::min<uint64_t>(bounce.size(), end - at);
    const int64_t n = read_at(at, bounce.span().first(bytes));
    if (n == -EINTR) {
      continue;
    }
    const uint64_t skip = offset + done - at;
    if (n < 0 || static_cast<uint64_t>(n) <= skip) {
      fail(
          ErrorCode::io,
          "[file] {}: reading {} bytes at offset {} failed: {}",
          path_.string(),
          dest.size(),
          offset,
          n < 0 ? std::strerror(static_cast<int>(-n)) : "the file ends before");
    }
    const uint64_t usable =
        std::min<uint64_t>(static_cast<uint64_t>(n) - skip, dest.size() - done);
    std::memcpy(dest.data() + done, bounce.data() + skip, usable);
    done += usable;
  }
}

void DirectFile::drop_cache(uint64_t offset, uint64_t bytes) const {
#ifdef __linux__
  // Pages that are covered in part are kept by the kernel, so cover them.
  const uint64_t begin = round_down(offset, page_bytes());
  const uint64_t end = bytes ? round_up(offset + bytes, page_bytes()) : begin;
  ::posix_fadvise(
      fd_,
      static_cast<off_t>(begin),
      static_cast<off_t>(end - begin),
      POSIX_FADV_DONTNEED);
#else
  // There is no posix_fadvise; a short-lived mapping can be invalidated.
  if (offset != 0 || bytes != 0 || size_ == 0) {
    return;
  }
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
  if (p != MAP_FAILED) {
    ::msync(p, size_, MS_INVALIDATE);
    ::munmap(p, size_);
  }
#endif
}

uint64_t page_cache_bytes(const std::filesystem::path& path) {
  const uint64_t size = regular_file_size(path);
  const int fd = open_for_reading(path, 0);
  if (fd < 0) {
    fail_on_file("open", path, -fd);
  }
  constexpr uint64_t kPiece = 256ull << 20;
  uint64_t cached_pages = 0;
  for (uint64_t at = 0; at < size; at += kPiece) {
    const uint64_t bytes = std::min(kPiece, size - at);
    void* p = ::mmap(
        nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(at));
    if (p == MAP_FAILED) {
      const int cause = errno;
      ::close(fd);
      fail_on_file("map", path, cause);
    }
    std::vector<unsigned char> resident(div_up(bytes, page_bytes()));
#ifdef __APPLE__
    ::mincore(p, bytes, reinterpret_cast<char*>(resident.data()));
#else
    ::mincore(p, bytes, resident.data());
#endif
    ::munmap(p, bytes);
    cached_pages += static_cast<uint64_t>(std::count_if(
        resident.begin(), resident.end(), [](auto r) { return r & 1; }));
  }
  ::close(fd);
  return cached_pages * page_bytes();
}

} // namespace mlx_flash
