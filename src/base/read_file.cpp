#include "base/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace mlx_flash {

namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

// `flags` are open(2)'s.
File open_file(const std::filesystem::path& path, int flags) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  File file(descriptor < 0 ? nullptr : fdopen(descriptor, "rb"), &std::fclose);
  if (!file) {
    fail(
        ErrorCode::not_found,
        "[file] cannot open {}: {}",
        path.string(),
        std::strerror(errno));
  }
  return file;
}

mode_t kind(std::FILE* file) {
  struct stat info{};
  return fstat(fileno(file), &info) == 0 ? info.st_mode & S_IFMT : 0;
}

// The limit is enforced on what is really read: a pipe has no size, and a file
// may grow.
std::string read_all(
    const File& file,
    const std::filesystem::path& path,
    uint64_t max_bytes) {
  std::string text;
  char block[1 << 16];
  while (const size_t n = std::fread(block, 1, sizeof(block), file.get())) {
    if (text.size() + n > max_bytes) {
      fail(
          ErrorCode::bad_model,
          "[file] {} is larger than the {} bytes allowed for such a file",
          path.string(),
          max_bytes);
    }
    text.append(block, n);
  }
  if (std::ferror(file.get())) {
    fail(ErrorCode::io, "[file] reading {} failed", path.string());
  }
  return text;
}

} // namespace

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const File file = open_file(path, O_NONBLOCK);
  if (kind(file.get()) != S_IFREG) {
    fail(ErrorCode::not_found, "[file] {} is not a file", path.string());
  }
  return read_all(file, path, max_bytes);
}

std::string read_file_or_pipe(
    const std::filesystem::path& path,
    uint64_t max_bytes) {
  const File file = open_file(path, 0);
  if (kind(file.get()) == S_IFDIR) {
    fail(
        ErrorCode::not_found,
        "[file] {} is a folder, not a file",
        path.string());
  }
  return read_all(file, path, max_bytes);
}

} // namespace mlx_flash
