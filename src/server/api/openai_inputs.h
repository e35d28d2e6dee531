// What /v1/completions calls prompts and /v1/embeddings calls inputs.
//
// Thread rule: as Fields.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "mlx_flash/generation.h"
#include "server/fields.h"

namespace mlx_flash::server {

using TextOrTokens = std::variant<std::string, std::vector<TokenId>>;

// A string, strings, token ids or arrays of token ids: one entry for each
// text, at least one and at most `most`. Throws ApiError(invalid_request).
std::vector<TextOrTokens>
read_inputs(Fields& fields, const char* field, size_t most);

} // namespace mlx_flash::server
