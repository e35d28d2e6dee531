#include "server/api/ollama_folder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/read_file.h"

namespace mlx_flash::server {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr uint64_t kMostFileBytes = 64u << 20;

std::string file_or_nothing(const fs::path& path) {
  try {
    return read_file(path, kMostFileBytes);
  } catch (const std::exception&) {
    return {};
  }
}

Json object_or_nothing(const std::string& text) {
  Json value = Json::parse(text, nullptr, false);
  return value.is_object() ? value : Json::object();
}

uint64_t count_of(const Json& config, const char* field) {
  const auto found = config.find(field);
  return found != config.end() && found->is_number_unsigned()
      ? found->get<uint64_t>()
      : 0;
}

std::string text_of(const Json& config, const char* field) {
  const auto found = config.find(field);
  return found != config.end() && found->is_string() ? found->get<std::string>()
                                                     : std::string();
}

std::string quantization_of(const Json& config) {
  for (const char* field : {"quantization", "quantization_config"}) {
    const auto found = config.find(field);
    if (found != config.end() && found->is_object()) {
      if (const uint64_t bits = count_of(*found, "bits")) {
        return fmt::format("{}-bit", bits);
      }
    }
  }
  std::string type = text_of(config, "torch_dtype");
  type = type.empty() ? text_of(config, "dtype") : type;
  if (type == "bfloat16") {
    return "BF16";
  }
  return type == "float16" ? "F16" : type == "float32" ? "F32" : type;
}

void read_config(const Json& config, ModelFolder& model) {
  model.model_type = text_of(config, "model_type");
  model.quantization = quantization_of(config);
  // Models that see have the sizes of their text half in an object of its own.
  const auto inner = config.find("text_config");
  const bool nested = inner != config.end() && inner->is_object();
  const Json& sizes = nested ? *inner : config;
  model.context_length = count_of(sizes, "max_position_embeddings");
  model.block_count = count_of(sizes, "num_hidden_layers");
  model.embedding_length = count_of(sizes, "hidden_size");
  model.vocab_size = count_of(sizes, "vocab_size");
  model.expert_count = count_of(sizes, "num_experts");
  model.expert_used_count = count_of(sizes, "num_experts_per_tok");
}

struct WeightFile {
  std::string name;
  uint64_t bytes;
  auto operator<=>(const WeightFile&) const = default;
};

std::vector<WeightFile> list_weights(
    const fs::path& folder,
    ModelFolder& model) {
  std::vector<WeightFile> files;
  std::error_code error;
  for (fs::directory_iterator i(folder, error), end; !error && i != end;
       i.increment(error)) {
    if (i->path().extension() != ".safetensors") {
      continue;
    }
    // Not std::filesystem's time: its clock has an epoch of its own.
    struct stat info{};
    if (stat(i->path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      const auto bytes = static_cast<uint64_t>(info.st_size);
      files.push_back({i->path().filename().string(), bytes});
      model.weight_bytes += bytes;
      model.modified = std::max(
          model.modified,
          std::chrono::system_clock::from_time_t(info.st_mtime));
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string digest_of(
    const std::string& config,
    const std::vector<WeightFile>& files) {
  std::string text = config;
  for (const WeightFile& file : files) {
    text += fmt::format("\n{}:{}", file.name, file.bytes);
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("xxh3:{:016x}{:016x}", hash.high64, hash.low64);
}

// "chat_template" is a text, or a list of {"name", "template"}.
std::string template_of(const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || !found->is_array()) {
    return text_of(config, "chat_template");
  }
  for (const Json& each : *found) {
    if (each.is_object() && text_of(each, "name") == "default") {
      return text_of(each, "template");
    }
  }
  return {};
}

} // namespace

ModelFolder read_model_folder(const fs::path& folder) {
  ModelFolder model;
  const std::string config = file_or_nothing(folder / "config.json");
  read_config(object_or_nothing(config), model);
  model.digest = digest_of(config, list_weights(folder, model));
  return model;
}

std::string read_chat_template(const fs::path& folder) {
  std::string source = file_or_nothing(folder / "chat_template.jinja");
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (source.empty()) {
      source = template_of(object_or_nothing(file_or_nothing(folder / name)));
    }
  }
  return source;
}

} // namespace mlx_flash::server
