// The parts of own_routes() (routes.h): routes that are no other dialect's.
// Their errors have OpenAI's form. Nothing here waits for the engine, but for
// what needs a model that is not loaded.
//
// Thread rule: pure functions; handlers as in routes.h.
#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/api/routes.h"

namespace mlx_flash::server {

// GET /health /ready /metrics /status /v1/config /cache/stats /hints
std::vector<Route> own_status_routes();
// POST /tokenize /detokenize /apply-template
std::vector<Route> own_text_routes();
// POST /hints /v1/models/switch /release /shutdown
std::vector<Route> own_control_routes();

// What is not text in `body` is replaced.
HttpResponse json_response(const nlohmann::ordered_json& body);

// The object that the body is; an empty one for no body at all.
nlohmann::ordered_json read_own_body(
    const ApiContext& context,
    const HttpExchange& exchange);

} // namespace mlx_flash::server
