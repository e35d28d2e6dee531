// Any bytes as the body of each request of OpenAI's dialect. What is accepted
// must be within the limits that were given.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "server/api/openai_chat.h"
#include "server/api/openai_completions.h"
#include "server/api/openai_models.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Json = nlohmann::ordered_json;

// Small, so that they are met.
ServerLimits small_limits() {
  ServerLimits limits;
  limits.json_depth = 16;
  limits.messages = 8;
  limits.tools = 4;
  limits.choices = 4;
  limits.max_tokens = 1000;
  limits.stop_string_bytes = 16;
  limits.logit_bias = 4;
  limits.schema_bytes = 256;
  limits.embedding_inputs = 4;
  return limits;
}

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check_job(const Job& job, const ServerLimits& limits) {
  require(job.choices >= 1 && job.choices <= limits.choices);
  require(job.max_tokens.value_or(0) <= limits.max_tokens);
  require(job.stop_strings.size() <= 4);
  for (const std::string& stop : job.stop_strings) {
    require(!stop.empty() && stop.size() <= limits.stop_string_bytes);
  }
  require(job.sampling.logit_bias.size() <= limits.logit_bias);
  require(job.top_logprobs >= 0 && job.top_logprobs <= kMostTopLogprobs);
  require(job.constraint.source.size() <= limits.schema_bytes);
  const double temperature = job.sampling.temperature.value_or(0);
  require(temperature >= 0 && temperature <= 2);
}

void check_conversation(
    const Conversation& conversation,
    const ServerLimits& limits) {
  require(!conversation.messages.empty());
  require(conversation.messages.size() <= limits.messages);
  require(conversation.tools.size() <= limits.tools);
  for (const ChatMessage& message : conversation.messages) {
    for (const ToolCall& call : message.tool_calls) {
      require(Json::parse(call.arguments).is_object());
    }
  }
  for (const Tool& tool : conversation.tools) {
    require(tool.parameters.size() <= limits.schema_bytes);
    require(
        tool.parameters.empty() || Json::parse(tool.parameters).is_object());
  }
  // What the template is made of is JSON.
  template_context(conversation, {});
}

// A refusal is an ApiError; anything else is a crash.
template <typename Read>
void unless_refused(const Read& read) {
  try {
    read();
  } catch (const ApiError&) {
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ServerLimits limits = small_limits();
  unless_refused([&] {
    const Json body = parse_body(text, {limits.json_depth, 4096});
    unless_refused([&] {
      ChatWishes wishes;
      const Job job = read_chat_request(body, limits, wishes);
      check_job(job, limits);
      check_conversation(std::get<Conversation>(job.prompt), limits);
    });
    unless_refused([&] {
      CompletionWishes wishes;
      const auto jobs = read_completion_request(body, limits, wishes);
      require(jobs.size() * wishes.choices <= limits.choices);
      for (const Job& job : jobs) {
        check_job(job, limits);
      }
    });
    unless_refused([&] {
      const auto request = read_embedding_request(body, limits);
      require(request.job.inputs.size() <= limits.embedding_inputs);
    });
  });
  return 0;
}
