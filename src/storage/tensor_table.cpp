#include "storage/tensor_table.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/align.h"
#include "base/error.h"
#include "storage/file_stream.h"

namespace mlx_flash {

namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint8_t kMaxRank = 32;
constexpr uint64_t kMaxMetadataEntries = 65'536;
constexpr uint64_t kMaxMetadataBytes = 16 << 20;

// Text to text, as the format demands.
void skip_metadata(JsonScanner& json) {
  const uint64_t begin = json.offset();
  json.begin_object();
  uint64_t entries = 0;
  for (std::string name; json.next_member(name);) {
    if (json.peek() != JsonScanner::Kind::string) {
      json.refuse("a value of __metadata__ that is not text");
    }
    json.skip();
    if (++entries > kMaxMetadataEntries ||
        json.offset() - begin > kMaxMetadataBytes) {
      json.refuse("__metadata__ of over 16 MB or 65,536 entries");
    }
  }
}

} // namespace

void TensorTable::add_file(const DirectFile& file) {
  uint64_t header_bytes = 0;
  if (file.size() >= kLengthBytes) {
    std::byte length[kLengthBytes];
    file.read_exactly(0, length);
    for (uint64_t i = 0; i < kLengthBytes; ++i) {
      header_bytes |= std::to_integer<uint64_t>(length[i]) << (8 * i);
    }
  }
  check_header_size(header_bytes, file.size(), file.path());
  add_header(
      stream_file(file, kLengthBytes, kLengthBytes + header_bytes),
      header_bytes,
      file.size(),
      file.path());
}

void TensorTable::add_text(
    std::string_view header,
    uint64_t file_bytes,
    const std::filesystem::path& path) {
  check_header_size(header.size(), file_bytes, path);
  add_header(
      [header]() mutable { return std::exchange(header, {}); },
      header.size(),
      file_bytes,
      path);
}

void TensorTable::check_header_size(
    uint64_t header_bytes,
    uint64_t file_bytes,
    const std::filesystem::path& path) {
  const char* what = nullptr;
  if (file_bytes < kLengthBytes || header_bytes > file_bytes - kLengthBytes) {
    what = "past the end of the file";
  } else if (header_bytes > kMaxSafetensorsHeader - header_bytes_) {
    what = "over the 100 MB allowed for all headers of a model";
  }
  if (what) {
    fail(
        ErrorCode::bad_model,
        "[safetensors] {}: a header of {} bytes, {} ({} bytes); this is no "
        "safetensors file, or part of one: download it again",
        path.string(),
        header_bytes,
        what,
        file_bytes);
  }
  header_bytes_ += header_bytes;
}

void TensorTable::add_header(
    JsonScanner::Refill refill,
    uint64_t header_bytes,
    uint64_t file_bytes,
    const std::filesystem::path& path) {
  const uint32_t first = size();
  paths_.push_back(path);
  JsonScanner json(
      std::move(refill),
      fmt::format("[safetensors] {}: bad header", path.string()),
      "download the file again");
  parse_header(json);
  index_names(first);
  check_ranges(first, kLengthBytes + header_bytes, file_bytes);
}

void TensorTable::parse_header(JsonScanner& json) {
  bool has_metadata = false;
  if (!json.starts_with('{')) {
    json.refuse("something before the first brace");
  }
  json.begin_object();
  for (std::string name; json.next_member(name);) {
    if (name != "__metadata__") {
      add_tensor(json, name);
    } else if (std::exchange(has_metadata, true)) {
      json.refuse("__metadata__ for the second time");
    } else {
      skip_metadata(json);
    }
  }
  json.finish();
}

void TensorTable::add_tensor(JsonScanner& json, const std::string& name) {
  Entry entry{};
  entry.file = static_cast<uint32_t>(paths_.size() - 1);
  entry.name_at = static_cast<uint32_t>(names_.size());
  entry.name_bytes = static_cast<uint16_t>(name.size());
  names_ += name;

  bool has_dtype = false, has_shape = false, has_offsets = false;
  const auto once = [&](bool& seen) {
    if (std::exchange(seen, true)) {
      refuse(entry, "has a field twice");
    }
  };
  json.begin_object();
  for (std::string field; json.next_member(field);) {
    if (field == "dtype") {
      once(has_dtype);
      const std::string spelled = json.string();
      const auto dtype = parse_dtype(spelled);
      if (!dtype) {
        refuse(
            entry, fmt::format("has the unknown dtype {}", in_quotes(spelled)));
      }
      entry.dtype = *dtype;
    } else if (field == "shape") {
      once(has_shape);
      read_shape(json, entry);
    } else if (field == "data_offsets") {
      once(has_offsets);
      read_offsets(json, entry);
    } else {
      refuse(entry, fmt::format("has the unknown field {}", in_quotes(field)));
    }
  }
  if (!has_dtype || !has_shape || !has_offsets) {
    refuse(entry, "lacks one of dtype, shape and data_offsets");
  }
  check_size(entry);
  entries_.push_back(entry);
  if (entries_.size() > kMaxTensors || bytes_held() > kMaxTableBytes) {
    json.refuse(fmt::format(
        "more tensors than any model has ({} so far)", entries_.size()));
  }
}

void TensorTable::read_shape(JsonScanner& json, Entry& entry) {
  entry.shape_at = static_cast<uint32_t>(dims_.size());
  json.begin_array();
  while (json.next_element()) {
    if (entry.rank == kMaxRank) {
      refuse(entry, fmt::format("has more than {} dimensions", kMaxRank));
    }
    dims_.push_back(json.unsigned_integer());
    ++entry.rank;
  }
}

void TensorTable::read_offsets(JsonScanner& json, Entry& entry) {
  uint64_t offsets[2];
  size_t count = 0;
  json.begin_array();
  while (json.next_element()) {
    if (count == 2) {
      refuse(entry, "has more than two data_offsets");
    }
    offsets[count++] = static_cast<uint64_t>(json.unsigned_integer());
  }
  if (count != 2 || offsets[0] > offsets[1]) {
    refuse(entry, "has data_offsets that are not [begin, end]");
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
}

void TensorTable::check_size(const Entry& entry) const {
  uint64_t bytes = dtype_bytes(entry.dtype);
  for (uint8_t i = 0; i < entry.rank; ++i) {
    const auto product =
        checked_mul(bytes, static_cast<uint64_t>(dims_[entry.shape_at + i]));
    if (!product) {
      refuse(entry, "has a shape whose product overflows");
    }
    bytes = *product;
  }
  if (entry.end - entry.begin != bytes) {
    refuse(
        entry,
        fmt::format(
            "has {} bytes in data_offsets, but {} by shape and dtype",
            entry.end - entry.begin,
            bytes));
  }
}

// The ranges must cover the data exactly. Turns them into ranges of the file.
void TensorTable::check_ranges(
    uint32_t first,
    uint64_t data_begin,
    uint64_t file_bytes) {
  const auto begin = entries_.begin() + first;
  std::sort(begin, entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name_at) <
        std::tie(b.begin, b.end, b.name_at);
  });
  const uint64_t data_bytes = file_bytes - data_begin;
  uint64_t covered = 0;
  for (auto entry = begin; entry != entries_.end(); ++entry) {
    if (entry->end > data_bytes) {
      refuse(
          *entry,
          fmt::format(
              "ends at byte {} of the data, but the file has {}; it is cut "
              "short",
              entry->end,
              data_bytes));
    }
    if (entry->begin < covered) {
      refuse(*entry, fmt::format("overlaps {}", name_in_quotes(*(entry - 1))));
    }
    if (entry->begin > covered) {
      refuse(
          *entry,
          fmt::format(
              "leaves a gap of {} bytes before it", entry->begin - covered));
    }
    covered = entry->end;
    entry->begin += data_begin;
    entry->end += data_begin;
  }
  if (covered != data_bytes) {
    fail(
        ErrorCode::bad_model,
        "[safetensors] {}: {} bytes at the end belong to no tensor; download "
        "the file again",
        paths_.back().string(),
        data_bytes - covered);
  }
}

// Of the tensors from `first` on; refuses equal ones among them.
void TensorTable::index_names(uint32_t first) {
  const auto twins =
      by_name_.build(first, size(), [this](uint32_t i) { return name(i); });
  if (!twins) {
    return;
  }
  const Entry& one = entries_[twins->first];
  const Entry& other = entries_[twins->second];
  refuse(
      one,
      one.file == other.file
          ? "is there twice"
          : fmt::format("is in {}, too", paths_[other.file].string()));
}

void TensorTable::finish() {
  index_names(0);
}

std::optional<uint32_t> TensorTable::find(std::string_view wanted) const {
  return by_name_.find(wanted, [this](uint32_t i) { return name(i); });
}

std::string_view TensorTable::name(uint32_t tensor) const {
  return name_of(entries_[tensor]);
}

std::vector<TensorInfo> TensorTable::expand() const {
  std::vector<TensorInfo> tensors;
  tensors.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    const auto dims = dims_.begin() + entry.shape_at;
    TensorInfo& tensor = tensors.emplace_back();
    tensor.name = name_of(entry);
    tensor.dtype = entry.dtype;
    tensor.shape.assign(dims, dims + entry.rank);
    tensor.file = entry.file;
    tensor.offset = entry.begin;
    tensor.bytes = entry.end - entry.begin;
  }
  return tensors;
}

uint64_t TensorTable::bytes_held() const {
  return names_.size() + dims_.size() * sizeof(int64_t) +
      entries_.size() * sizeof(Entry);
}

std::string TensorTable::name_in_quotes(const Entry& entry) const {
  return in_quotes(name_of(entry));
}

void TensorTable::refuse(const Entry& entry, std::string_view what) const {
  fail(
      ErrorCode::bad_model,
      "[safetensors] {}: tensor {} {}; download the file again",
      paths_[entry.file].string(),
      name_in_quotes(entry),
      what);
}

} // namespace mlx_flash
