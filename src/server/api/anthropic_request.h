// The body of a request of Anthropic's Messages API, read into a job. What it
// says of the conversation is in anthropic_conversation.h, what of tools in
// anthropic_tools.h; answers are anthropic_message.h and anthropic_stream.h.
//
// Fields of the current API (https://docs.claude.com/en/api/messages) and of
// its betas are known by name: each is honoured, refused, or one of those that
// change nothing about an answer.
//
// Thread rule: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct AnthropicRequest {
  Job job;
  bool stream = false;
  // Thinking is written out; else its block is empty but for the signature,
  // which carries it.
  bool shows_thinking = true;
  // The client has asked for edits of its context, and is told of those.
  bool edits_context = false;
};

enum class AnthropicPurpose { message, count_tokens };

// Throws ApiError(invalid_request) that names the field. Counting needs no
// `max_tokens`, and the conversation may end with the assistant.
AnthropicRequest read_anthropic_request(
    const nlohmann::ordered_json& body,
    AnthropicPurpose purpose,
    const ServerLimits& limits);

} // namespace mlx_flash::server
