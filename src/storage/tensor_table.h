// The tensors of one or more safetensors headers while they are validated: a
// compact form whose size is bounded, so that a hostile header is refused
// before it has taken much memory. What is found good becomes TensorInfo
// (storage/safetensors_index.h).
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "platform/direct_file.h"
#include "storage/json_scanner.h"
#include "storage/name_index.h"
#include "storage/safetensors_index.h"

namespace mlx_flash {

class TensorTable {
 public:
  // 80 layers of 384 experts, each with its 9 tensors on their own, and the
  // rest. So many take about 90 MB until the layout is known.
  static constexpr uint64_t kMaxTensors = 280'000;
  // Of all headers together.
  static constexpr uint64_t kMaxTableBytes = 48ull << 20;

  // Reads, parses and validates the header of one file. Throws
  // Error(bad_model) for each rule that safetensors_index.h lists, and for
  // more than kMaxSafetensorsHeader bytes in all headers together.
  void add_file(const DirectFile& file);

  // The same for a header that is in memory already: the JSON alone.
  void add_text(
      std::string_view header,
      uint64_t file_bytes,
      const std::filesystem::path& path);

  // After the last header: refuses a name that two of them have.
  void finish();

  // Number of the tensor with this name. Only after finish().
  std::optional<uint32_t> find(std::string_view name) const;

  uint32_t size() const {
    return static_cast<uint32_t>(entries_.size());
  }
  std::string_view name(uint32_t tensor) const;
  // Which header it came from.
  uint32_t file(uint32_t tensor) const {
    return entries_[tensor].file;
  }

  // All of them, by file and offset, with the same numbers.
  std::vector<TensorInfo> expand() const;
  // Finds them by name. Leaves the table without it.
  NameIndex take_names() {
    return std::move(by_name_);
  }

 private:
  struct Entry {
    uint64_t begin; // in the file
    uint64_t end;
    uint32_t name_at; // in names_
    uint32_t shape_at; // in dims_
    uint16_t name_bytes;
    uint8_t rank;
    Dtype dtype;
    uint32_t file;
  };
  static_assert(sizeof(Entry) == 32);

  void check_header_size(
      uint64_t header_bytes,
      uint64_t file_bytes,
      const std::filesystem::path& path);
  void add_header(
      JsonScanner::Refill refill,
      uint64_t header_bytes,
      uint64_t file_bytes,
      const std::filesystem::path& path);
  void parse_header(JsonScanner& json);
  void add_tensor(JsonScanner& json, const std::string& name);
  void read_shape(JsonScanner& json, Entry& entry);
  void read_offsets(JsonScanner& json, Entry& entry);
  void check_size(const Entry& entry) const;
  void check_ranges(uint32_t first, uint64_t data_begin, uint64_t file_bytes);
  void index_names(uint32_t first);
  uint64_t bytes_held() const;
  std::string name_in_quotes(const Entry& entry) const;
  std::string_view name_of(const Entry& entry) const {
    return std::string_view(names_).substr(entry.name_at, entry.name_bytes);
  }
  [[noreturn]] void refuse(const Entry& entry, std::string_view what) const;

  std::vector<std::filesystem::path> paths_;
  uint64_t header_bytes_ = 0;
  std::vector<Entry> entries_;
  std::string names_;
  std::vector<int64_t> dims_;
  NameIndex by_name_;
};

} // namespace mlx_flash
