// The body of POST /v1/responses, read into a job. Items are
// openai_responses_items.h, tools openai_responses_tools.h; what becomes of the
// answer is openai_responses_output.h.
//
// Every field of the API (https://platform.openai.com/docs/api-reference/
// responses/create) is known by name: it is honoured, refused, or one of those
// that change nothing about an answer.
//
// Thread rule: a pure function, but for looking up responses.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/api/openai_responses_tools.h"
#include "server/api/response_store.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct ResponseRequest {
  Job job;
  bool stream = false;
  bool store = true;
  // What the Response object says of the request: all of it but output,
  // status and what comes of these. As text, which takes no more than the
  // request did.
  std::shared_ptr<const std::string> echo;
  std::vector<ItemPtr> input; // all of it, that of earlier responses included
  std::map<std::string, NamespacedName> namespaced; // ResponseTools's
};

// Throws ApiError(invalid_request) that names the field.
ResponseRequest read_response_request(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits,
    ResponseStore& store);

} // namespace mlx_flash::server
