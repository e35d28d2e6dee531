// How a model makes embeddings, for states whose size is known already. The
// public read_embedding_form() (mlx_flash/embedding.h) finds that out too.
//
// Thread rule: any thread; reads files.
#pragma once

#include <filesystem>

#include "mlx_flash/embedding.h"

namespace mlx_flash {

EmbeddingForm find_embedding_form(
    const std::filesystem::path& model,
    int hidden);

} // namespace mlx_flash
