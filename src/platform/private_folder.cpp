#include "platform/private_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace mlx_flash {

namespace {

constexpr mode_t kOwnerOnly = 0700;
constexpr mode_t kOthers = 0077;

[[noreturn]] void fail_on_folder(
    const std::filesystem::path& path,
    const std::string& what) {
  fail(ErrorCode::io, "[folder] {} {}", path.string(), what);
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), error);
  }
  if (error || (::mkdir(path.c_str(), kOwnerOnly) != 0 && errno != EEXIST)) {
    fail_on_folder(
        path,
        fmt::format(
            "cannot be made: {}",
            error ? error.message() : std::strerror(errno)));
  }
}

void require_private(const std::filesystem::path& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    fail_on_folder(
        path, fmt::format("cannot be read: {}", std::strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode)) {
    fail_on_folder(path, "is no folder; name another one");
  }
  if (info.st_uid != ::geteuid()) {
    fail_on_folder(path, "belongs to another user; name another one");
  }
  if ((info.st_mode & kOthers) != 0) {
    fail_on_folder(
        path,
        "may be used by others; name another one, or run chmod 700 on it");
  }
}

} // namespace

PrivateFolder::PrivateFolder(std::filesystem::path path)
    : path_(std::move(path)) {
  make_folder(path_);
  require_private(path_);
  const auto file = path_ / "lock";
  lock_ = ::open(
      file.c_str(),
      O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
      S_IRUSR | S_IWUSR);
  if (lock_ < 0) {
    fail_on_folder(
        path_, fmt::format("cannot be locked: {}", std::strerror(errno)));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail_on_folder(path_, "is in use by another process; name another one");
  }
}

PrivateFolder::~PrivateFolder() {
  ::close(lock_); // the lock goes with it
}

} // namespace mlx_flash
