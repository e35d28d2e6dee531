// For tests: a new folder below the working folder (which is on a disk, where
// /tmp may be memory), removed with what is in it.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/magic.h>
#include <sys/vfs.h>
#endif

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace mlx_flash {

class TempFolder {
 public:
  TempFolder() {
    std::string name = std::filesystem::current_path() / "test-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }

  // True on a file system whose files are the page cache, so that nothing can
  // be said about what is left there.
  bool is_in_memory() const {
#ifdef __linux__
    struct statfs info;
    return ::statfs(path_.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
#else
    return false;
#endif
  }

  // Writes `text` to the file `name`, making the folders on the way.
  std::filesystem::path write(
      const std::filesystem::path& name,
      std::string_view text) const {
    const std::filesystem::path file = path_ / name.relative_path();
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary)
        .write(text.data(), static_cast<std::streamsize>(text.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

} // namespace mlx_flash
