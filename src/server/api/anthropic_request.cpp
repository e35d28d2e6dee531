#include "server/api/anthropic_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api/anthropic_conversation.h"
#include "server/api/anthropic_tools.h"
#include "server/fields.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostModelBytes = 256;
constexpr size_t kMostEdits = 16;

SamplingWishes read_sampling(Fields& body) {
  SamplingWishes sampling;
  sampling.temperature = body.number("temperature", 0, 1);
  sampling.top_p = body.number("top_p", 0, 1);
  sampling.top_k = body.integer("top_k", 0, INT32_MAX);
  return sampling;
}

std::vector<std::string> read_stops(Fields& body, const ServerLimits& limits) {
  body.array("stop_sequences", limits.stop_strings);
  auto stops = body.texts(
      "stop_sequences", limits.stop_strings, limits.stop_string_bytes);
  for (const std::string& stop : stops.value_or(std::vector<std::string>())) {
    if (stop.empty()) {
      body.reject("stop_sequences", "must not hold an empty string");
    }
  }
  return stops.value_or(std::vector<std::string>());
}

// Without a word about it there is none, as ever in this API: clients read the
// first block of an answer as its text.
void read_thinking(Fields& body, AnthropicRequest& request) {
  auto& thinking = std::get<Conversation>(request.job.prompt).thinking;
  thinking = false;
  const Json* value = body.object("thinking");
  if (!value) {
    return;
  }
  Fields fields(*value, body.path("thinking"));
  const auto type = fields.word("type", {"enabled", "disabled", "adaptive"});
  if (!type) {
    fields.reject("type", "is missing");
  }
  thinking = *type != "disabled";
  // A hint: what bounds thinking and the rest of an answer is max_tokens.
  fields.integer("budget_tokens", 1, INT32_MAX);
  request.shows_thinking =
      fields.word("display", {"summarized", "omitted", "updates"}) != "omitted";
  fields.accept({"block_binding"}); // our signatures bind nothing
  fields.done();
}

void read_format(
    Fields& holder,
    const char* field,
    const ServerLimits& limits,
    Job& job) {
  const Json* value = holder.object(field);
  if (!value) {
    return;
  }
  Fields format(*value, holder.path(field));
  if (!format.word("type", {"json_schema"})) {
    format.reject("type", "is missing");
  }
  const Json* schema = format.object("schema");
  if (!schema) {
    format.reject("schema", "is missing");
  }
  format.done();
  if (job.constraint.kind != Constraint::Kind::none) {
    holder.reject(field, "is given beside output_format; leave one out");
  }
  job.constraint_field = format.path("schema");
  job.constraint = {
      Constraint::Kind::json_schema,
      schema_text(*schema, job.constraint_field, limits)};
}

void read_output(Fields& body, const ServerLimits& limits, Job& job) {
  // What output_config.format was called while it was a beta.
  read_format(body, "output_format", limits, job);
  const Json* value = body.object("output_config");
  if (!value) {
    return;
  }
  Fields config(*value, body.path("output_config"));
  read_format(config, "format", limits, job);
  config.accept({"effort"});
  config.refuse("task_budget", "is not supported: use max_tokens");
  config.done();
}

// Edits that save room in Anthropic's context window. None of them is needed
// here, and the answer says that none was made; only what hands the
// conversation back in another form is more than that.
bool read_context_management(Fields& body) {
  const Json* value = body.object("context_management");
  if (!value) {
    return false;
  }
  Fields management(*value, body.path("context_management"));
  const Json* edits = management.array("edits", kMostEdits);
  management.done();
  for (size_t i = 0; edits && i < edits->size(); ++i) {
    Fields edit(
        (*edits)[i], fmt::format("{}[{}]", management.path("edits"), i));
    const std::string type = edit.required_text("type");
    if (type.rfind("clear_thinking_", 0) != 0 &&
        type.rfind("clear_tool_uses_", 0) != 0) {
      edit.reject(
          "type",
          fmt::format(
              "is '{}', which is not supported; shorten the conversation in "
              "the client",
              type.substr(0, 64)));
    }
  }
  return true;
}

void read_what_changes_nothing(Fields& body) {
  body.object("metadata");
  body.word("service_tier", {"auto", "standard_only"});
  body.accept({
      "cache_control", // beginnings of prompts are always cached
      "diagnostics",
      "inference_geo",
      "billing_policy",
      "user_profile_id",
      "workspace_id",
      "betas",
  });
}

void refuse_what_is_elsewhere(Fields& body) {
  const char* why = "is a service of Anthropic's that mlx-flash does not have";
  body.refuse("container", why);
  body.refuse("mcp_servers", why, {"[]"});
  body.refuse("compaction", why);
  body.refuse("thread", why);
  body.refuse("fallbacks", why, {"[]"});
  body.refuse("fallback_credit_token", why);
  body.refuse("speed", "must be 'standard'", {"\"standard\""});
}

} // namespace

AnthropicRequest read_anthropic_request(
    const Json& body,
    AnthropicPurpose purpose,
    const ServerLimits& limits) {
  const bool counts = purpose == AnthropicPurpose::count_tokens;
  Fields fields(body);
  AnthropicRequest request;
  Job& job = request.job;
  job.model = fields.required_text("model", kMostModelBytes);
  const auto most = static_cast<int64_t>(limits.max_tokens);
  job.max_tokens = counts ? fields.integer("max_tokens", 1, most)
                          : fields.required_integer("max_tokens", 1, most);

  Conversation conversation;
  conversation.messages = read_anthropic_messages(fields, limits);
  if (!counts) { // any conversation can be counted
    check_last_role(conversation);
  }
  conversation.tools = read_anthropic_tools(fields, limits);
  job.tool_choice = read_anthropic_tool_choice(fields, conversation.tools);
  job.prompt = std::move(conversation);

  job.sampling = read_sampling(fields);
  job.stop_strings = read_stops(fields, limits);
  read_output(fields, limits, job);
  read_thinking(fields, request);
  request.edits_context = read_context_management(fields);
  request.stream = fields.boolean("stream").value_or(false);
  read_what_changes_nothing(fields);
  refuse_what_is_elsewhere(fields);
  fields.done();
  return request;
}

} // namespace mlx_flash::server
