// OpenAI's POST /v1/completions, the older API without messages: what its
// requests ask for. Answers are in openai_completions_answer.h; the route is in
// routes.h.
//
// Thread rule: a pure function.
#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/api/openai_fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// What a request says of the form of its answer.
struct CompletionWishes {
  StreamWishes stream{};
  bool echo = false; // every answer begins with its prompt
  bool logprobs = false;
  uint64_t choices = 1; // of each prompt
};

// A job for each prompt, without its request_id. Throws
// ApiError(invalid_request).
std::vector<Job> read_completion_request(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits,
    CompletionWishes& wishes);

} // namespace mlx_flash::server
