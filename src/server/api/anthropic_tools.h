// Tools of Anthropic's Messages API, and which of them an answer may call.
// Their calls and results in a conversation are anthropic_conversation.h.
//
// Thread rule: pure functions. All throw ApiError(invalid_request) that names
// the field.
#pragma once

#include <vector>

#include "server/fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// The field "tools". Only tools that the request describes by a schema: those
// that Anthropic's servers run, or that only its models know, are refused.
std::vector<Tool> read_anthropic_tools(
    Fields& body,
    const ServerLimits& limits);

// The field "tool_choice" of a request with these tools.
ToolChoice read_anthropic_tool_choice(
    Fields& body,
    const std::vector<Tool>& tools);

} // namespace mlx_flash::server
