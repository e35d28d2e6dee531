// A Hugging Face or MLX model folder: which tensors it has, where their bytes
// are, how modules are quantised. Opening it reads config.json and the headers
// only. It does not read weights (storage/reader.h does).
//
// Thread rule: immutable after open.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/model_config.h"
#include "storage/name_index.h"
#include "storage/safetensors_index.h"

namespace mlx_flash {

class Checkpoint {
 public:
  // `folder` holds config.json and model.safetensors, or shards with
  // model.safetensors.index.json. Throws Error(not_found) when it is no model
  // folder and Error(bad_model | unsupported) when it is malformed: one error,
  // before any weight is read.
  static Checkpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const {
    return folder_;
  }
  // The text of config.json, valid JSON with an object at its top.
  const std::string& config_json() const {
    return config_json_;
  }
  // "model_type" of config.json.
  const std::string& model_type() const {
    return config_.model_type;
  }

  // The weight files, in the order of TensorInfo::file. Symbolic links are
  // kept as they are named in the folder.
  const std::vector<std::filesystem::path>& files() const {
    return files_;
  }
  // Size of all weight files together.
  uint64_t file_bytes() const {
    return file_bytes_;
  }

  const std::vector<TensorInfo>& tensors() const {
    return tensors_;
  }
  // Null when there is no such tensor.
  const TensorInfo* find(std::string_view name) const;
  // Throws Error(bad_model) that names the tensor and the folder.
  const TensorInfo& get(const std::string& name) const;

  // How the module at `path` (such as "model.layers.0.mlp.gate") is
  // quantised: its override in config.json, else the global setting if
  // "<path>.scales" exists, else not at all (empty). For per-expert files
  // `path` is the expert's module. Throws Error(unsupported) for a mode other
  // than affine and mxfp4, and Error(bad_model) where the tensors in the file
  // are not those of the mode, or bits and group size do not fit their shapes.
  // `path` need not have a tensor "<path>.weight".
  std::optional<Quantization> quantization(const std::string& path) const;

 private:
  [[noreturn]] void refuse(const std::string& module, const std::string& what)
      const;
  void check_parts(const std::string& module, Quantization quantization) const;
  void check_dtypes(
      const std::string& module,
      const TensorInfo& weight,
      const TensorInfo& scales,
      const TensorInfo* biases) const;

  std::filesystem::path folder_;
  std::string config_json_;
  ModelConfig config_;
  std::vector<std::filesystem::path> files_;
  uint64_t file_bytes_ = 0;
  std::vector<TensorInfo> tensors_;
  NameIndex by_name_;
};

} // namespace mlx_flash
