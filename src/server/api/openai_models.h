// OpenAI's GET /v1/models, GET /v1/models/{name} and POST /v1/embeddings: what
// is in their requests and answers. The routes are in routes.h.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/embedding_job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// `created` is in seconds since the epoch. Both have what Anthropic's clients
// expect of the same routes, too, beside what OpenAI's do.
nlohmann::ordered_json model_object(const std::string& name, int64_t created);
nlohmann::ordered_json model_list(
    const std::vector<ServedModel>& models,
    int64_t created);

struct EmbeddingRequest {
  EmbeddingJob job{}; // without its request_id
  bool base64 = false; // of 32-bit floats, instead of numbers
};

// Throws ApiError(invalid_request).
EmbeddingRequest read_embedding_request(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits);

// The body of an answer, of embeddings that are JSON values.
std::string embedding_list(
    const std::vector<std::string>& embeddings,
    const EmbeddingsEnd& end);

} // namespace mlx_flash::server
