// Model families by their Hugging Face model_type. A new family is one file
// pair, one line in registry.cpp and its goldens (docs/adding-a-model.md).
#pragma once

#include <memory>
#include <string>

#include "models/model.h"

namespace mlx_flash {

// Reads a config.json. Throws Error(unsupported) for a model_type or an option
// that is not implemented, naming it and what is, and Error(bad_model) for
// missing, mistyped or absurd values.
ModelShape read_model_shape(const std::string& config_json);

// Loads the dense weights from `weights`. `ops` must outlive the model.
std::unique_ptr<Model> make_model(
    const std::string& config_json,
    ops::Ops& ops,
    WeightSource& weights);

} // namespace mlx_flash
