// OpenAI's POST /v1/chat/completions: what its requests ask for. Answers are in
// openai_chat_answer.h; the route is in routes.h.
//
// Thread rule: a pure function.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "server/api/openai_fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// What a request says of the form of its answer.
using ChatWishes = StreamWishes;

// The job without its request_id. Throws ApiError(invalid_request).
Job read_chat_request(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits,
    ChatWishes& wishes);

} // namespace mlx_flash::server
