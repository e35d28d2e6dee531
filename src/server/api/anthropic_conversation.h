// The conversation of a request of Anthropic's Messages API: "system" and
// "messages", with their blocks of text, thinking, calls of tools and results.
// What cannot be given to a model that reads text alone is refused by name.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/conversation.h"
#include "server/fields.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// In order, the system's first; at least one. Turns of the same role that
// follow each other are one, as in Anthropic's API. Throws
// ApiError(invalid_request) that names the field.
std::vector<ChatMessage> read_anthropic_messages(
    Fields& body,
    const ServerLimits& limits);

// Ids of calls in jobs begin with "call_", and in this API with "toolu_". An
// id that another server gave stays as it is.
std::string to_anthropic_call_id(std::string_view id);
std::string from_anthropic_call_id(std::string_view id);

// What a thinking block is signed with. Nothing is proven by it; one of a block
// whose thinking is not shown carries it, so that it is not lost to the model
// when the client sends the block back.
std::string anthropic_signature(std::string_view hidden_thinking);
// The thinking that such a signature carries; empty for any other.
std::string hidden_thinking(std::string_view signature);

} // namespace mlx_flash::server
