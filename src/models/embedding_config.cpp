#include "models/embedding_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "models/config_reader.h"

namespace mlx_flash {

using Json = nlohmann::json;

namespace {

struct Module {
  std::string type; // as the file has it
  std::string folder;

  // Where a class lives has changed with the library's versions.
  bool is(const std::string& name) const {
    return type.starts_with("sentence_transformers.") &&
        type.ends_with("." + name);
  }
};

std::string shown(const std::string& text) {
  constexpr size_t kMost = 100;
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

std::string text_of(const Json& module, const char* key) {
  const auto found = module.find(key);
  if (found == module.end() || !found->is_string()) {
    fail(
        ErrorCode::bad_model,
        "modules.json: '{}' of each module must be a string",
        key);
  }
  return found->get<std::string>();
}

std::vector<Module> read_modules(const std::string& text) {
  const Json modules = Json::parse(text, nullptr, false);
  if (!modules.is_array()) {
    fail(ErrorCode::bad_model, "modules.json is not a list of modules");
  }
  std::vector<Module> result;
  for (const Json& each : modules) {
    if (!each.is_object()) {
      fail(ErrorCode::bad_model, "modules.json is not a list of objects");
    }
    result.push_back({text_of(each, "type"), text_of(each, "path")});
  }
  return result;
}

// No file outside the model's folder is named in one.
void require_plain_name(const std::string& folder) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  };
  if (folder.empty() || folder.size() > 100 || folder[0] == '.' ||
      !std::all_of(folder.begin(), folder.end(), is_plain)) {
    fail(
        ErrorCode::bad_model,
        "modules.json: the path '{}' is not the name of a folder",
        shown(folder));
  }
}

[[noreturn]] void refuse_module(const Module& module) {
  fail(
      ErrorCode::unsupported,
      "modules.json: a {} in '{}' is not supported in its place; this build "
      "makes embeddings with Transformer in the model's own folder, Pooling and "
      "Normalize, in this order",
      shown(module.type),
      shown(module.folder));
}

struct Mode {
  const char* name; // of "pooling_mode"
  const char* key; // of older versions, true or false
  Pooling pooling; // none: not supported
};
constexpr std::array kModes{
    Mode{"cls", "pooling_mode_cls_token", Pooling::first},
    Mode{"lasttoken", "pooling_mode_lasttoken", Pooling::last},
    Mode{"mean", "pooling_mode_mean_tokens", Pooling::mean},
    Mode{"max", "pooling_mode_max_tokens", Pooling::none},
    Mode{
        "mean_sqrt_len_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        Pooling::none},
    Mode{"weightedmean", "pooling_mode_weightedmean_tokens", Pooling::none},
};

// The names of all modes that the file asks for; their vectors would be
// joined.
std::string mode_names(const ConfigReader& config) {
  if (config.has("pooling_mode")) {
    return config.text("pooling_mode");
  }
  std::string names;
  for (const Mode& mode : kModes) {
    if (config.boolean(mode.key, false)) {
      names += (names.empty() ? "" : "+") + std::string(mode.name);
    }
  }
  return names.empty() ? "mean" : names;
}

} // namespace

EmbeddingModules parse_embedding_modules(const std::string& modules_json) {
  const std::vector<Module> modules = read_modules(modules_json);
  if (modules.size() < 2) {
    fail(ErrorCode::unsupported, "modules.json states no pooling");
  }
  if (!modules[0].is("Transformer") || !modules[0].folder.empty()) {
    refuse_module(modules[0]);
  }
  if (!modules[1].is("Pooling")) {
    refuse_module(modules[1]);
  }
  EmbeddingModules result;
  result.pooling_folder = modules[1].folder;
  require_plain_name(result.pooling_folder);
  if (modules.size() > 2) {
    if (!modules[2].is("Normalize") || modules.size() > 3) {
      refuse_module(modules.back());
    }
    result.normalized = true;
    result.normalize_folder = modules[2].folder;
    require_plain_name(result.normalize_folder);
  }
  return result;
}

Pooling parse_pooling(const std::string& config_json, int hidden) {
  const ConfigReader config(config_json);
  for (const char* key : {"embedding_dimension", "word_embedding_dimension"}) {
    if (config.has(key) && config.integer(key, 1, 1 << 30) != hidden) {
      fail(
          ErrorCode::bad_model,
          "config.json: '{}' is {}, but the model's states have {} numbers",
          key,
          config.integer(key, 1, 1 << 30),
          hidden);
    }
  }
  const std::string names = mode_names(config);
  for (const Mode& mode : kModes) {
    if (names == mode.name && mode.pooling != Pooling::none) {
      return mode.pooling;
    }
  }
  fail(
      ErrorCode::unsupported,
      "config.json: the pooling mode '{}' is not supported; this build has "
      "lasttoken, mean and cls",
      shown(names));
}

void check_normalization(const std::string& config_json) {
  const ConfigReader config(config_json);
  for (const char* key : {"module_input_name", "module_output_name"}) {
    if (config.has(key) && config.text(key) != "sentence_embedding") {
      fail(
          ErrorCode::unsupported,
          "config.json: '{}' is '{}', and only sentence_embedding is supported",
          key,
          shown(config.text(key)));
    }
  }
}

} // namespace mlx_flash
