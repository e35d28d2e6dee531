// XXH3 checksums of every run of bytes that the engine reads as one: each
// dense tensor and each section of each expert. Safetensors files carry none,
// so `mlx-flash verify --write-checksums` makes them once, and runs given the
// file refuse bytes that differ, whether the disk or the file changed.
//
// Thread rule: immutable once filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "storage/checkpoint.h"
#include "storage/expert_layout.h"
#include "storage/json_scanner.h"
#include "storage/reader.h"

namespace mlx_flash {

class ChecksumTable {
 public:
  // Reads the whole model once, in pieces of at most one tensor or section.
  // Throws Error(io) when a read fails.
  static ChecksumTable compute(
      const Checkpoint& checkpoint,
      const ExpertLayout& layout,
      Reader& reader);

  // Throws Error(not_found | bad_model) when `path` is no checksum file, or
  // was made for other files than the checkpoint's (names and sizes).
  static ChecksumTable load(
      const std::filesystem::path& path,
      const Checkpoint& checkpoint);
  // Written to a temporary file beside `path` and renamed. Throws Error(io).
  void save(const std::filesystem::path& path) const;

  // Empty when `bytes`, read from `offset` of `file`, are what they were when
  // the table was made; otherwise one line with file, offset and both sums.
  // A run that the table does not have is such a line too.
  std::optional<std::string>
  check(uint32_t file, uint64_t offset, std::span<const std::byte> bytes) const;

  // The first run of `then` that has other bytes now, in one line with file
  // and offset; empty without one.
  std::string difference(const ChecksumTable& then) const;

  size_t size() const {
    return runs_.size();
  }

 private:
  struct File {
    std::string name; // as in the model's folder
    uint64_t bytes = 0;
    bool operator==(const File&) const = default;
  };
  // Bytes that are read as one.
  struct Run {
    uint32_t file = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t xxh3 = 0;

    bool operator<(const Run& other) const {
      return std::pair(file, offset) < std::pair(other.file, other.offset);
    }
  };

  static std::vector<File> list_files(const Checkpoint& checkpoint);
  static std::vector<Run> list_runs(
      const Checkpoint& checkpoint,
      const ExpertLayout& layout);
  void parse(JsonScanner& json);
  Run parse_run(JsonScanner& json) const;

  std::vector<File> files_;
  std::vector<Run> runs_; // sorted
};

} // namespace mlx_flash
