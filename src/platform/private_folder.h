// A folder for files that nobody but this user may read. While it is open it is
// one process's alone.
//
// Thread rule: immutable after construction.
#pragma once

#include <filesystem>

namespace mlx_flash {

class PrivateFolder {
 public:
  // Makes the folder if it is not there. Throws Error(io) with what to do when
  // it is no folder, when others may read or change it, and when another
  // process holds it.
  explicit PrivateFolder(std::filesystem::path path);
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }

 private:
  const std::filesystem::path path_;
  int lock_ = -1; // the open file "lock"
};

} // namespace mlx_flash
