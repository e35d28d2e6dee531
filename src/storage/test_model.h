// For tests: safetensors files and model folders with random bytes, written
// the plainest way there is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/rng.h"
#include "platform/temp_folder.h"
#include "storage/dtype.h"
#include "storage/model_config.h"

namespace mlx_flash {

struct TestTensor {
  std::string name;
  std::string dtype; // as a header spells it
  std::vector<int64_t> shape;
  std::string bytes;
};

inline TestTensor random_tensor(
    Rng& rng,
    std::string name,
    Dtype dtype,
    std::vector<int64_t> shape) {
  int64_t bytes = dtype_bytes(dtype);
  for (const int64_t dim : shape) {
    bytes *= dim;
  }
  TestTensor tensor{
      std::move(name),
      std::string(dtype_name(dtype)),
      std::move(shape),
      std::string(static_cast<size_t>(bytes), '\0')};
  for (char& byte : tensor.bytes) {
    byte = static_cast<char>(rng.next());
  }
  return tensor;
}

// weight, scales and, when affine, biases of a quantised module; `shape` is
// that of the values.
inline void append_quantized(
    std::vector<TestTensor>& tensors,
    Rng& rng,
    const std::string& module,
    std::vector<int64_t> shape,
    const Quantization& quantization) {
  auto words = shape, groups = shape;
  words.back() = shape.back() * quantization.bits / 32;
  groups.back() = shape.back() / quantization.group_size;
  tensors.push_back(random_tensor(rng, module + ".weight", Dtype::u32, words));
  if (!quantization.has_biases()) {
    tensors.push_back(
        random_tensor(rng, module + ".scales", Dtype::u8, groups));
    return;
  }
  for (const char* part : {".scales", ".biases"}) {
    tensors.push_back(random_tensor(rng, module + part, Dtype::bf16, groups));
  }
}

// The JSON of a header whose tensors lie one after another.
inline std::string safetensors_header(const std::vector<TestTensor>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"mlx\"}";
  size_t at = 0;
  for (const auto& tensor : tensors) {
    header += ",\"" + tensor.name + "\":{\"dtype\":\"" + tensor.dtype +
        "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    }
    header += "],\"data_offsets\":[" + std::to_string(at);
    at += tensor.bytes.size();
    header += "," + std::to_string(at) + "]}";
  }
  return header + "}";
}

inline std::string with_length(const std::string& header) {
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file += static_cast<char>(header.size() >> (8 * i));
  }
  return file + header;
}

// The header ends at a multiple of `header_unit`; of 8 as most writers have it.
inline std::string safetensors_file(
    const std::vector<TestTensor>& tensors,
    size_t header_unit = 1) {
  std::string header = safetensors_header(tensors);
  header.resize(
      (header.size() + header_unit - 1) / header_unit * header_unit, ' ');
  std::string file = with_length(header);
  for (const auto& tensor : tensors) {
    file += tensor.bytes;
  }
  return file;
}

// A mixture of experts with little beside them.
struct TestMoe {
  int layers = 2;
  int experts = 4;
  int64_t hidden = 64;
  int64_t inner = 32;
  int bits = 0; // 0 is bf16
  int group_size = 32;
  QuantizationMode mode = QuantizationMode::affine;
  bool stacked = true;
  uint64_t seed = 1;

  std::vector<TestTensor> tensors() const {
    Rng rng(seed);
    std::vector<TestTensor> all;
    const auto module = [&](const std::string& name,
                            std::vector<int64_t> shape) {
      if (bits) {
        append_quantized(
            all, rng, name, std::move(shape), {bits, group_size, mode});
      } else {
        all.push_back(random_tensor(
            rng, name + ".weight", Dtype::bf16, std::move(shape)));
      }
    };
    const auto expert = [&](const std::string& name,
                            const std::vector<int64_t>& lead) {
      for (const char* projection : {"gate_proj", "up_proj", "down_proj"}) {
        const bool down = projection[0] == 'd';
        auto shape = lead;
        shape.push_back(down ? hidden : inner);
        shape.push_back(down ? inner : hidden);
        module(name + "." + projection, std::move(shape));
      }
    };
    all.push_back(
        random_tensor(rng, "model.norm.weight", Dtype::bf16, {hidden}));
    for (int l = 0; l < layers; ++l) {
      const std::string mlp = "model.layers." + std::to_string(l) + ".mlp.";
      module(mlp + "gate", {experts, hidden});
      if (stacked) {
        expert(mlp + "switch_mlp", {experts});
      } else {
        for (int e = 0; e < experts; ++e) {
          expert(mlp + "experts." + std::to_string(e), {});
        }
      }
    }
    return all;
  }

  std::string config() const {
    std::string text = "{\"model_type\": \"qwen3_moe\"";
    if (bits) {
      text +=
          ", \"quantization\": {\"group_size\": " + std::to_string(group_size) +
          ", \"bits\": " + std::to_string(bits) +
          (mode == QuantizationMode::mxfp4 ? ", \"mode\": \"mxfp4\"}" : "}");
    }
    return text + "}";
  }

  // Into one model.safetensors.
  void write(const TempFolder& folder, size_t header_unit = 1) const {
    folder.write("config.json", config());
    folder.write("model.safetensors", safetensors_file(tensors(), header_unit));
  }

  // Into `shards` files with an index, tensors dealt in turn.
  void write_shards(const TempFolder& folder, size_t shards) const {
    std::vector<std::vector<TestTensor>> parts(shards);
    std::string map;
    size_t next = 0;
    for (auto& tensor : tensors()) {
      const size_t shard = next++ % shards;
      map += (map.empty() ? "\"" : ",\n\"") + tensor.name + "\":\"" +
          shard_name(shard) + "\"";
      parts[shard].push_back(std::move(tensor));
    }
    folder.write("config.json", config());
    for (size_t i = 0; i < shards; ++i) {
      folder.write(shard_name(i), safetensors_file(parts[i]));
    }
    folder.write(
        "model.safetensors.index.json",
        "{\"metadata\":{\"total_size\":0},\"weight_map\":{" + map + "}}");
  }

  static std::string shard_name(size_t shard) {
    return "model-" + std::to_string(shard) + ".safetensors";
  }
};

} // namespace mlx_flash
