// Messages and tools of OpenAI's chat requests, as a conversation.
//
// All throw ApiError(invalid_request) with the field's name.
//
// Thread rule: as Fields.
#pragma once

#include <string>
#include <vector>

#include "server/conversation.h"
#include "server/fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// messages.
std::vector<ChatMessage> read_messages(
    Fields& fields,
    const ServerLimits& limits);

// tools, tool_choice and parallel_tool_calls. Tools that tool_choice does not
// allow are left out, so that the model does not know them.
void read_tools(
    Fields& fields,
    const ServerLimits& limits,
    std::vector<Tool>& tools,
    ToolChoice& choice);

} // namespace mlx_flash::server
