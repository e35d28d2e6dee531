// Any bytes as the body of a request of Anthropic's Messages API. What is
// accepted must be a conversation that a template can be given, and can be
// counted too.
#include <cstdint>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "server/api/anthropic_request.h"
#include "server/fields.h"

using namespace mlx_flash::server;

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

bool is_complete(const ChatMessage& message) {
  if (message.role == "tool") {
    return !message.name.empty() && !message.tool_call_id.empty();
  }
  return message.role == "system" || message.role == "user" ||
      message.role == "assistant";
}

void check(const AnthropicRequest& request) {
  const auto& conversation = std::get<Conversation>(request.job.prompt);
  require(!conversation.messages.empty());
  for (const ChatMessage& message : conversation.messages) {
    require(is_complete(message));
  }
  require(request.job.choices == 1);
  require(nlohmann::json::accept(template_context(conversation, {})));
}

bool read(std::string_view text, AnthropicPurpose purpose) {
  try {
    check(
        read_anthropic_request(parse_body(text, {}), purpose, ServerLimits{}));
    return true;
  } catch (const ApiError& error) {
    require(error.kind() == ApiErrorKind::invalid_request);
    return false;
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (read(text, AnthropicPurpose::message)) {
    require(read(text, AnthropicPurpose::count_tokens));
  }
  return 0;
}
