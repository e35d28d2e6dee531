#include "base/read_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace mlx_flash {

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) {
    fail(
        ErrorCode::not_found,
        "[file] cannot open {}: {}",
        path.string(),
        std::strerror(errno));
  }
  struct stat info;
  if (fstat(fileno(file.get()), &info) != 0 || S_ISDIR(info.st_mode)) {
    fail(
        ErrorCode::not_found,
        "[file] {} is a folder, not a file",
        path.string());
  }
  // The size is a hint: a pipe has none. The limit is enforced on what is
  // really read.
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

} // namespace mlx_flash
