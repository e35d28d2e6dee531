// A file that gets its name once all of it is written: whoever finds it finds
// it whole. It is written around the page cache where the file system allows
// it, and readable by its owner alone.
//
// Thread rule: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/aligned_buffer.h"

namespace mlx_flash {

class NewFile {
 public:
  // Files end at a multiple of this; what is missing is filled with zeros.
  static constexpr uint64_t kBlockBytes = 4096;
  // What the name of an unfinished file ends with.
  static constexpr const char* kUnfinished = ".part";

  // Writes through `buffer`, of whole blocks, which others may use once this
  // is finished. An unfinished file of the same name is replaced. Throws
  // Error(io), as all methods do.
  NewFile(std::filesystem::path path, std::span<std::byte> buffer);
  // Removes the file if it is not finished.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void append(std::span<const std::byte> bytes);
  void finish();

 private:
  void flush();
  [[noreturn]] void fail_to(const char* what, int cause) const;

  const std::filesystem::path path_;
  const std::filesystem::path unfinished_;
  const std::span<std::byte> buffer_;
  size_t filled_ = 0; // of the buffer
  int fd_ = -1;
  bool direct_ = true;
};

} // namespace mlx_flash
