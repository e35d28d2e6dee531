// The conversation of a request of Ollama's API: `messages` with calls of
// tools and their results, and `tools`. Arguments of calls are objects here,
// not texts as in OpenAI's API.
//
// All throw ApiError(invalid_request) that names the field.
//
// Thread rule: pure functions.
#pragma once

#include <vector>

#include "server/conversation.h"
#include "server/fields.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// Of the field `messages` of `body`; empty without.
std::vector<ChatMessage> read_ollama_messages(
    Fields& body,
    const ServerLimits& limits);

// Of the field `tools`; empty without.
std::vector<Tool> read_ollama_tools(Fields& body, const ServerLimits& limits);

// Pictures: refused, unless there are none.
void refuse_ollama_images(Fields& fields);

} // namespace mlx_flash::server
