#include "models/registry.h"

#include <array>

#include "base/error.h"
#include "models/config_reader.h"
#include "models/qwen3_moe.h"

namespace mlx_flash {

namespace {

struct Family {
  const char* model_type;
  ModelShape (*shape)(const std::string&);
  std::unique_ptr<Model> (*make)(const std::string&, ops::Ops&, WeightSource&);
};

constexpr std::array kFamilies{
    Family{"qwen3_moe", qwen3_moe_shape, make_qwen3_moe},
};

const Family& family_of(const std::string& config_json) {
  const std::string type = ConfigReader(config_json).text("model_type");
  std::string known;
  for (const Family& family : kFamilies) {
    if (type == family.model_type) {
      return family;
    }
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  fail(
      ErrorCode::unsupported,
      "[model] model_type '{}' is not supported; this build runs: {}",
      type,
      known);
}

} // namespace

ModelShape read_model_shape(const std::string& config_json) {
  return family_of(config_json).shape(config_json);
}

std::unique_ptr<Model> make_model(
    const std::string& config_json,
    ops::Ops& ops,
    WeightSource& weights) {
  return family_of(config_json).make(config_json, ops, weights);
}

} // namespace mlx_flash
