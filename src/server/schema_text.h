// JSON schemas as requests of any dialect bring them, as the text that is kept
// of them. What keywords mean is up to whoever compiles it (Engine::check).
//
// Thread rule: a pure function.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "server/server_options.h"

namespace mlx_flash::server {

// Throws ApiError(invalid_request) that names `field` for a schema that is too
// long or nested too deep, and for one that sets "x-guidance": what the
// compiler does is not for clients to say.
std::string schema_text(
    const nlohmann::ordered_json& schema,
    const std::string& field,
    const ServerLimits& limits);

} // namespace mlx_flash::server
