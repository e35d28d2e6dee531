// The header of one safetensors file, parsed and validated before any tensor
// is touched. Format: 8 bytes little-endian header length, the header (JSON),
// then the data (https://huggingface.co/docs/safetensors).
//
// Refused, each with an Error(bad_model) that names the file and the tensor:
// a header over 100 MB or past the end of the file, invalid JSON, a duplicate
// name, an unknown dtype, a shape whose product overflows, a range that is
// not shape times element size, ranges that overlap, leave gaps or do not end
// with the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "storage/dtype.h"

namespace mlx_flash {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  uint32_t file = 0; // index into Checkpoint::files()
  uint64_t offset = 0; // of its first byte in that file
  uint64_t bytes = 0;
};

inline constexpr uint64_t kMaxSafetensorsHeader = 100ull << 20;

// `header` is the JSON alone, `file_bytes` the size of the whole file.
// Tensors come in the order of their offsets. `file` of each is 0.
std::vector<TensorInfo> parse_safetensors_header(
    std::string_view header,
    uint64_t file_bytes,
    const std::filesystem::path& path);

// Reads and parses the header of `path` around the page cache.
std::vector<TensorInfo> read_safetensors_index(
    const std::filesystem::path& path);

} // namespace mlx_flash
