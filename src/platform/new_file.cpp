#include "platform/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/align.h"
#include "base/check.h"
#include "base/error.h"

namespace mlx_flash {

namespace {

std::filesystem::path with_suffix(std::filesystem::path path) {
  return path += NewFile::kUnfinished;
}

int create(const std::filesystem::path& path, int flags) {
  return ::open(
      path.c_str(),
      O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | flags,
      S_IRUSR | S_IWUSR);
}

// -1 where there are no such files.
int create_direct(const std::filesystem::path& path) {
#ifdef O_DIRECT
  return create(path, O_DIRECT);
#else
  const int fd = create(path, 0);
#ifdef F_NOCACHE
  if (fd >= 0) {
    ::fcntl(fd, F_NOCACHE, 1);
  }
#endif
  return fd;
#endif
}

} // namespace

NewFile::NewFile(std::filesystem::path path, std::span<std::byte> buffer)
    : path_(std::move(path)), unfinished_(with_suffix(path_)), buffer_(buffer) {
  MLX_FLASH_CHECK(
      !buffer_.empty() && buffer_.size() % kBlockBytes == 0 &&
      reinterpret_cast<uintptr_t>(buffer_.data()) % kBlockBytes == 0);
  ::unlink(unfinished_.c_str());
  fd_ = create_direct(unfinished_);
  if (fd_ < 0 && errno == EINVAL) { // which may leave the file behind
    ::unlink(unfinished_.c_str());
    direct_ = false;
    fd_ = create(unfinished_, 0);
  }
  if (fd_ < 0) {
    fail_to("make", errno);
  }
}

NewFile::~NewFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(unfinished_.c_str());
  }
}

void NewFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t piece = std::min(bytes.size(), buffer_.size() - filled_);
    std::memcpy(buffer_.data() + filled_, bytes.data(), piece);
    filled_ += piece;
    bytes = bytes.subspan(piece);
    if (filled_ == buffer_.size()) {
      flush();
    }
  }
}

void NewFile::flush() {
  const size_t end = round_up(filled_, kBlockBytes);
  std::memset(buffer_.data() + filled_, 0, end - filled_);
  for (size_t done = 0; done < end;) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, end - done);
    if (n < 0 && errno != EINTR) {
      fail_to("write", errno);
    }
    done += n > 0 ? static_cast<size_t>(n) : 0;
  }
  filled_ = 0;
}

void NewFile::finish() {
  if (filled_ > 0) {
    flush();
  }
#ifdef __linux__
  if (!direct_) {
    // Only what is on the disk can leave the page cache.
    ::fdatasync(fd_);
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }
#endif
  if (::rename(unfinished_.c_str(), path_.c_str()) != 0) {
    fail_to("name", errno);
  }
  ::close(std::exchange(fd_, -1));
}

void NewFile::fail_to(const char* what, int cause) const {
  fail(
      ErrorCode::io,
      "[file] cannot {} {}: {}",
      what,
      unfinished_.string(),
      std::strerror(cause));
}

} // namespace mlx_flash
