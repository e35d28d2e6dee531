#include "storage/checkpoint.h"

#include "base/align.h"
#include "base/error.h"
#include "base/read_file.h"
#include "platform/direct_file.h"
#include "storage/file_stream.h"
#include "storage/shard_index.h"
#include "storage/tensor_table.h"

namespace mlx_flash {

namespace fs = std::filesystem;

namespace {

constexpr const char* kConfigName = "config.json";
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::string read_config(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    fail(
        ErrorCode::not_found,
        "[checkpoint] {} is not a folder; give the path of a model's folder",
        folder.string());
  }
  if (!is_file(folder / kConfigName)) {
    fail(
        ErrorCode::not_found,
        "[checkpoint] {} has no {}; give the path of a model's folder",
        folder.string(),
        kConfigName);
  }
  return read_file(folder / kConfigName, kMaxConfigBytes);
}

JsonScanner scan_index(const DirectFile& index) {
  return JsonScanner(
      stream_file(index, 0, index.size()),
      fmt::format("[checkpoint] {}", index.path().string()),
      "download the model again");
}

// The headers of `names` in `folder`.
TensorTable read_headers(
    const fs::path& folder,
    const std::vector<std::string>& names,
    std::vector<fs::path>& files,
    uint64_t& file_bytes) {
  TensorTable table;
  for (const auto& name : names) {
    const fs::path path = folder / name;
    if (!is_file(path)) {
      fail(
          ErrorCode::bad_model,
          "[checkpoint] {} is missing, which {} names; download the model "
          "again",
          path.string(),
          kIndexName);
    }
    const DirectFile file(path);
    table.add_file(file);
    files.push_back(path);
    file_bytes += file.size();
  }
  table.finish();
  return table;
}

TensorTable read_shards(
    const fs::path& folder,
    std::vector<fs::path>& files,
    uint64_t& file_bytes) {
  const DirectFile index(folder / kIndexName);
  if (index.size() > kMaxSafetensorsHeader) {
    fail(
        ErrorCode::bad_model,
        "[checkpoint] {} has {} bytes, more than any model's; download the "
        "model again",
        index.path().string(),
        index.size());
  }
  JsonScanner names = scan_index(index);
  const auto shards = read_shard_names(names);
  TensorTable table = read_headers(folder, shards, files, file_bytes);
  JsonScanner map = scan_index(index);
  check_weight_map(map, shards, table);
  return table;
}

} // namespace

Checkpoint Checkpoint::open(const fs::path& folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.config_json_ = read_config(folder);
  checkpoint.config_ =
      parse_model_config(checkpoint.config_json_, folder / kConfigName);
  auto& files = checkpoint.files_;
  auto& bytes = checkpoint.file_bytes_;
  TensorTable table;
  if (is_file(folder / kIndexName)) {
    table = read_shards(folder, files, bytes);
  } else if (is_file(folder / kSingleName)) {
    table = read_headers(folder, {kSingleName}, files, bytes);
  } else {
    fail(
        ErrorCode::not_found,
        "[checkpoint] {} has neither {} nor {}; give the path of a model's "
        "folder",
        folder.string(),
        kSingleName,
        kIndexName);
  }
  checkpoint.tensors_ = table.expand();
  checkpoint.by_name_ = table.take_names();
  return checkpoint;
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto tensor = by_name_.find(
      name,
      [this](uint32_t i) -> std::string_view { return tensors_[i].name; });
  return tensor ? &tensors_[*tensor] : nullptr;
}

const TensorInfo& Checkpoint::get(const std::string& name) const {
  const TensorInfo* tensor = find(name);
  if (!tensor) {
    fail(
        ErrorCode::bad_model,
        "[checkpoint] {} has no tensor {}; the files are not those of a whole "
        "{} model",
        folder_.string(),
        in_quotes(name),
        in_quotes(model_type()));
  }
  return *tensor;
}

std::optional<Quantization> Checkpoint::quantization(
    const std::string& path) const {
  const auto override = config_.overrides.find(path);
  const bool listed = override != config_.overrides.end();
  if (!find(path + ".scales")) {
    return std::nullopt;
  }
  const auto& entry = listed ? override->second : config_.quantization;
  if (!entry) {
    refuse(
        path,
        listed ? "has scales, but config.json says that it is not quantised"
               : "has scales, but config.json has no \"quantization\"");
  }
  if (!entry->quantization) {
    fail(
        ErrorCode::unsupported,
        "[checkpoint] {}: {} is quantised in the mode {}; affine and mxfp4 are "
        "supported: take another conversion of the model",
        folder_.string(),
        in_quotes(path),
        in_quotes(entry->mode));
  }
  check_parts(path, *entry->quantization);
  return entry->quantization;
}

void Checkpoint::refuse(const std::string& module, const std::string& what)
    const {
  fail(
      ErrorCode::bad_model,
      "[checkpoint] {}: {} {}; download the model again",
      folder_.string(),
      in_quotes(module),
      what);
}

// That a module has the tensors of its mode, in fitting shapes: a row of `in`
// values has in * bits / 32 packed words, and in / group_size scales and
// biases.
void Checkpoint::check_parts(
    const std::string& module,
    Quantization quantization) const {
  const TensorInfo* weight = find(module + ".weight");
  const TensorInfo* scales = find(module + ".scales");
  const TensorInfo* biases = find(module + ".biases");
  if (!weight) {
    refuse(module, "has scales without a weight");
  }
  if (quantization.has_biases() && !biases) {
    refuse(module, "has scales without biases, which the mode affine needs");
  }
  if (!quantization.has_biases() && biases) {
    refuse(module, "has biases, which the mode mxfp4 does not know");
  }
  check_dtypes(module, *weight, *scales, biases);
  const auto& shape = weight->shape;
  const bool alike = shape.size() >= 2 &&
      (!biases || biases->shape == scales->shape) &&
      scales->shape.size() == shape.size() &&
      std::equal(shape.begin(), shape.end() - 1, scales->shape.begin());
  if (!alike) {
    refuse(module, "has weight, scales and biases of unlike shapes");
  }
  const auto words = static_cast<uint64_t>(shape.back());
  const auto groups = static_cast<uint64_t>(scales->shape.back());
  const auto row_bits = checked_mul(words, 32);
  const auto group_bits = checked_mul(
      groups,
      static_cast<uint64_t>(quantization.bits) *
          static_cast<uint64_t>(quantization.group_size));
  if (!row_bits || row_bits != group_bits || words == 0) {
    refuse(
        module,
        fmt::format(
            "has {} words and {} groups in a row, which is not {} bits in "
            "groups of {}",
            words,
            groups,
            quantization.bits,
            quantization.group_size));
  }
}

// `biases` is null in the mode mxfp4.
void Checkpoint::check_dtypes(
    const std::string& module,
    const TensorInfo& weight,
    const TensorInfo& scales,
    const TensorInfo* biases) const {
  if (!biases) {
    if (weight.dtype != Dtype::u32 || scales.dtype != Dtype::u8) {
      refuse(
          module,
          fmt::format(
              "has a weight of {} and scales of {}, not U32 and U8",
              dtype_name(weight.dtype),
              dtype_name(scales.dtype)));
    }
    return;
  }
  const bool floating = scales.dtype == Dtype::f16 ||
      scales.dtype == Dtype::bf16 || scales.dtype == Dtype::f32;
  if (weight.dtype != Dtype::u32 || !floating ||
      biases->dtype != scales.dtype) {
    refuse(
        module,
        fmt::format(
            "has a weight of {}, scales of {} and biases of {}, not U32 and "
            "twice one of F16, BF16 and F32",
            dtype_name(weight.dtype),
            dtype_name(scales.dtype),
            dtype_name(biases->dtype)));
  }
}

} // namespace mlx_flash
