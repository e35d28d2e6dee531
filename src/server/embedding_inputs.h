// From the inputs of a request for embeddings to the tokens that the model
// reads. No template is rendered and no prompt of the checkpoint is put before
// a text: whoever wants one writes it.
//
// Thread rule: make_embedding_inputs() is for a worker, tokenizers take time.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "mlx_flash/engine.h"
#include "server/embedding_job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// Inputs of all requests together, whose embeddings are kept until the last one
// of their request is there; and the memory that these take.
uint64_t most_embeddings(const ServerLimits& limits);
uint64_t embeddings_bytes(
    const ServerLimits& limits,
    const EmbeddingForm& form);

// Throws ApiError(invalid_request) for what the model's embeddings are not.
void check_embeddings(const EmbeddingJob& job, const ServedModel& model);

// Each with the tokens that the model's tokenizer adds to a text. `between` is
// called before each of them, and may throw. Throws ApiError that names the
// input; of code context_length_exceeded for what is too long and may not be
// cut.
std::vector<std::vector<TokenId>> make_embedding_inputs(
    const EmbeddingJob& job,
    const Text& text,
    uint64_t vocab_size,
    const Plan& plan,
    const std::function<void()>& between = [] {});

} // namespace mlx_flash::server
