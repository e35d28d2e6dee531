// Embeddings: one vector for a text, made of the model's states behind the
// text's tokens in the way that the model's checkpoint states.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mlx_flash {

// Which states the vector is made of: none, because the checkpoint states no
// way that this build knows; that behind the first or the last token; or the
// mean of all.
enum class Pooling { none, first, last, mean };

struct EmbeddingForm {
  Pooling pooling = Pooling::none;
  bool normalized = false; // to length 1
  uint64_t dimensions = 0;
  std::string why_none{}; // without pooling: the reason, for people
};

// What the model in a folder states, as sentence-transformers writes it
// (modules.json). Loads nothing. A folder that cannot be read or is malformed
// is one of a model without embeddings, and why_none says so.
EmbeddingForm read_embedding_form(const std::filesystem::path& model);

// The vector, or why there is none.
using OnEmbedding =
    std::function<void(std::vector<float> embedding, std::exception_ptr error)>;

} // namespace mlx_flash
