// What sentence-transformers' files say of a model's embeddings: modules.json,
// and the config.json of its modules. They are part of a downloaded model and
// are not trusted. engine/embedding_form.cpp finds and reads them.
//
// All throw Error(bad_model) for text that is malformed and Error(unsupported)
// for what would need other mathematics, by name.
//
// Thread rule: pure functions.
#pragma once

#include <string>

#include "mlx_flash/embedding.h"

namespace mlx_flash {

// Modules one after another: the model itself, a pooling, and maybe a
// normalisation. Folders are names of ones in the model's own.
struct EmbeddingModules {
  std::string pooling_folder{};
  bool normalized = false;
  std::string normalize_folder{}; // which need not be there
};
EmbeddingModules parse_embedding_modules(const std::string& modules_json);

// Of the pooling module's config.json, for states of `hidden` numbers.
Pooling parse_pooling(const std::string& config_json, int hidden);

// The normalising module's config.json says nothing but what it does anyway.
void check_normalization(const std::string& config_json);

} // namespace mlx_flash
