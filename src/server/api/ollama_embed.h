// /api/embed and the older /api/embeddings of Ollama's API: from the request
// that was read (ollama_request.h) to its answer. A request without a text
// only has the model loaded.
//
// Thread rule: any thread.
#pragma once

#include <memory>

#include "server/api/context.h"
#include "server/api/ollama_request.h"

namespace mlx_flash::server {

enum class OllamaEmbedRoute { embed, embeddings };

// Throws ApiError(not_found) for a model that there is not.
void embed_for_ollama(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    OllamaEmbedRequest request,
    OllamaEmbedRoute route);

} // namespace mlx_flash::server
