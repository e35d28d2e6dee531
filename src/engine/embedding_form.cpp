#include "engine/embedding_form.h"

#include "base/error.h"
#include "base/read_file.h"
#include "models/embedding_config.h"
#include "models/registry.h"
#include "storage/model_config.h"

namespace mlx_flash {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMostBytes = 1u << 20; // of sentence-transformers' files

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Clients of a server are told, so the folder's own path is left out.
std::string read_part(
    const fs::path& model,
    const std::string& name,
    uint64_t most_bytes = kMostBytes) {
  try {
    return read_file(model / name, most_bytes);
  } catch (const Error& error) {
    fail(
        error.code(),
        "{} is missing, cannot be read or has more than {} bytes",
        name,
        most_bytes);
  }
}

// Throws Error for what is malformed or not supported.
EmbeddingForm read_modules(const fs::path& model, int hidden) {
  const auto modules =
      parse_embedding_modules(read_part(model, "modules.json"));
  const auto in_folder = [&](const std::string& folder, const auto& parse) {
    const std::string config = read_part(model, folder + "/config.json");
    try {
      return parse(config);
    } catch (const Error& error) {
      fail(error.code(), "{}: {}", folder, error.what());
    }
  };
  EmbeddingForm form;
  form.pooling = in_folder(
      modules.pooling_folder,
      [&](const std::string& config) { return parse_pooling(config, hidden); });
  form.normalized = modules.normalized;
  form.dimensions = static_cast<uint64_t>(hidden);
  if (modules.normalized &&
      is_there(model / modules.normalize_folder / "config.json")) {
    in_folder(modules.normalize_folder, check_normalization);
  }
  return form;
}

EmbeddingForm none_because(std::string why) {
  EmbeddingForm form;
  form.why_none = std::move(why);
  return form;
}

} // namespace

EmbeddingForm find_embedding_form(const fs::path& model, int hidden) {
  if (!is_there(model / "modules.json")) {
    return none_because("its checkpoint states no pooling (no modules.json)");
  }
  try {
    return read_modules(model, hidden);
  } catch (const Error& error) {
    return none_because(error.what());
  }
}

EmbeddingForm read_embedding_form(const fs::path& model) {
  try {
    const ModelShape shape =
        read_model_shape(read_part(model, "config.json", kMaxConfigBytes));
    return find_embedding_form(model, shape.hidden);
  } catch (const Error& error) {
    return none_because(error.what());
  }
}

} // namespace mlx_flash
