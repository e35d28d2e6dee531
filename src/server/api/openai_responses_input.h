// What POST /v1/responses is asked to answer: a text or items, behind those of
// an earlier response, some of which may be references to stored ones.
//
// Thread rule: a pure function, but for looking up items.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/api/response_store.h"
#include "server/conversation.h"
#include "server/fields.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct ResponseInput {
  std::vector<ItemPtr> items; // all of it, the previous ones included
  std::vector<ChatMessage> messages; // what they are in a conversation
  bool has_new = false; // the request brings items, beside the previous ones
};

// `instructions` are the request's own; those of earlier ones are past.
// Throws ApiError(invalid_request) that names the field.
ResponseInput read_response_input(
    Fields& body,
    const ServerLimits& limits,
    ResponseStore& store,
    const std::optional<std::string>& instructions,
    std::vector<ItemPtr> previous);

} // namespace mlx_flash::server
