#include "server/api/openai_responses_request.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "server/api/openai_fields.h"
#include "server/api/openai_responses_input.h"
#include "server/api/openai_responses_items.h"
#include "server/api_error.h"
#include "server/fields.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostMetadata = 16;
constexpr size_t kMostMetadataKeyBytes = 64;
constexpr size_t kMostMetadataValueBytes = 512;
constexpr size_t kMostIncludes = 64;

template <typename Value>
Json value_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json unix_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// What the new items follow, which the request does not send again.
std::vector<ItemPtr>
read_previous(Fields& body, ResponseStore& store, Json& echo) {
  const auto id = body.text("previous_response_id", kMostNameBytes);
  echo["previous_response_id"] = value_or_null(id);
  if (!id) {
    return {};
  }
  const auto previous = store.find(*id);
  if (!previous) {
    throw invalid_field(
        body.path("previous_response_id"),
        fmt::format(
            "previous_response_id '{}' is not here (any more): send the whole "
            "conversation as input",
            *id))
        .with_code("previous_response_not_found");
  }
  std::vector<ItemPtr> items = previous->input;
  items.insert(items.end(), previous->output.begin(), previous->output.end());
  return items;
}

// {"type", "name", "schema", "strict", "description"}. The schema is kept to
// whether it is strict or not, as in chats.
Constraint read_schema(Fields& format, const ServerLimits& limits, Json& echo) {
  echo["name"] = format.required_text("name", kMostNameBytes);
  if (const auto text = format.text("description", limits.schema_bytes)) {
    echo["description"] = *text;
  }
  const Json* schema = format.object("schema");
  if (!schema) {
    format.reject("schema", "is missing");
  }
  echo["schema"] = *schema;
  echo["strict"] = format.boolean("strict").value_or(true);
  return {
      Constraint::Kind::json_schema,
      schema_text(*schema, format.path("schema"), limits)};
}

Constraint read_format(
    const Json& value,
    std::string name,
    const ServerLimits& limits,
    Json& echo) {
  Fields format(value, std::move(name));
  const auto type = format.word("type", {"text", "json_object", "json_schema"});
  if (!type) {
    format.reject("type", "is missing");
  }
  echo = {{"type", *type}};
  Constraint constraint;
  if (*type == "json_object") {
    constraint = {Constraint::Kind::json_schema, R"({"type":"object"})"};
  } else if (*type == "json_schema") {
    constraint = read_schema(format, limits, echo);
  }
  format.done();
  return constraint;
}

Constraint read_text(Fields& body, const ServerLimits& limits, Json& echo) {
  Json format{{"type", "text"}};
  Constraint constraint;
  if (const Json* value = body.object("text")) {
    Fields fields(*value, body.path("text"));
    if (const Json* asked = fields.object("format")) {
      constraint = read_format(*asked, fields.path("format"), limits, format);
    }
    fields.refuse(
        "verbosity",
        "is not supported: ask for a length in the input",
        {"\"medium\""});
    fields.done();
  }
  echo["text"] = {{"format", std::move(format)}};
  return constraint;
}

void read_reasoning(Fields& body, Conversation& conversation, Json& echo) {
  std::optional<std::string> effort;
  if (const Json* value = body.object("reasoning")) {
    Fields fields(*value, body.path("reasoning"));
    effort = fields.word(
        "effort", {"none", "minimal", "low", "medium", "high", "xhigh", "max"});
    // Reasoning is told as it is, which is more than a summary of it.
    const auto words = {"auto", "concise", "detailed"};
    fields.word("summary", words);
    fields.word("generate_summary", words);
    fields.refuse(
        "context",
        "is not supported: the model's template says which reasoning it is "
        "given again",
        {"\"auto\""});
    fields.refuse("mode", "is not supported", {"\"standard\""});
    fields.done();
  }
  echo["reasoning"] = {{"effort", value_or_null(effort)}, {"summary", nullptr}};
  if (effort) {
    conversation.thinking = *effort != "none" && *effort != "minimal";
    // Some templates know how much, too.
    conversation.template_values = Json{{"reasoning_effort", *effort}}.dump();
  }
}

void read_metadata(Fields& body, Json& echo) {
  const Json* value = body.object("metadata");
  echo["metadata"] = value ? *value : Json::object();
  if (!value) {
    return;
  }
  if (value->size() > kMostMetadata) {
    body.reject(
        "metadata", fmt::format("must have at most {} entries", kMostMetadata));
  }
  Fields entries(*value, body.path("metadata"));
  for (const auto& [key, each] : value->items()) {
    if (key.size() > kMostMetadataKeyBytes) {
      body.reject(
          "metadata",
          fmt::format(
              "must have keys of at most {} bytes", kMostMetadataKeyBytes));
    }
    entries.required_text(key.c_str(), kMostMetadataValueBytes);
  }
}

// True if it asks for log-probabilities.
bool read_include(Fields& body) {
  bool logprobs = false;
  const Json* include = body.array("include", kMostIncludes);
  for (size_t i = 0; include && i < include->size(); ++i) {
    const Json entry{{"include", (*include)[i]}};
    Fields fields(entry);
    fields.required_text("include");
    // But for log-probabilities these are there anyway, or tell of tools that
    // cannot have been called.
    const auto word = fields.word(
        "include",
        {"message.output_text.logprobs",
         "reasoning.encrypted_content",
         "file_search_call.results",
         "web_search_call.results",
         "web_search_call.action.sources",
         "message.input_image.image_url",
         "computer_call_output.output.image_url",
         "code_interpreter_call.outputs"});
    logprobs |= word == "message.output_text.logprobs";
  }
  return logprobs;
}

void read_logprobs(Fields& body, Job& job, Json& echo) {
  const auto top = body.integer("top_logprobs", 0, kMostTopLogprobs);
  job.logprobs = read_include(body) || top.value_or(0) > 0;
  job.top_logprobs = static_cast<int>(top.value_or(0));
  echo["top_logprobs"] = job.top_logprobs;
}

void read_lengths(
    Fields& body,
    const ServerLimits& limits,
    Job& job,
    Json& echo) {
  const auto most = body.integer(
      "max_output_tokens", 1, static_cast<int64_t>(limits.max_tokens));
  if (most) {
    job.max_tokens = static_cast<uint64_t>(*most);
  }
  echo["max_output_tokens"] = value_or_null(most);
  // Of calls that OpenAI's service would make itself; here there are none.
  echo["max_tool_calls"] =
      value_or_null(body.integer("max_tool_calls", 0, INT64_MAX));
}

void read_stream(Fields& body, ResponseRequest& request) {
  request.stream = body.boolean("stream").value_or(false);
  const Json* value = body.object("stream_options");
  if (!value) {
    return;
  }
  if (!request.stream) {
    body.reject("stream_options", "is for requests with stream: true");
  }
  Fields options(*value, body.path("stream_options"));
  options.refuse(
      "include_obfuscation", "cannot be had: nothing is padded", {"false"});
  options.done();
}

void refuse_what_is_elsewhere(Fields& body) {
  body.refuse(
      "background",
      "is not supported: stream the response, or wait for it",
      {"false"});
  body.refuse(
      "conversation", "is not supported: use previous_response_id, or input");
  body.refuse("prompt", "is not supported: send instructions and input");
  body.refuse(
      "truncation",
      "must be 'disabled': leaving items out is up to the client",
      {"\"disabled\""});
  body.refuse(
      "context_management",
      "is not supported: shorten the conversation in the client",
      {"[]"});
  body.refuse("moderation", "is a service of OpenAI's");
}

// For OpenAI's accounts, caches and statistics, and Codex's own.
void read_what_changes_nothing(Fields& body, Json& echo) {
  for (const char* field : {"user", "safety_identifier", "prompt_cache_key"}) {
    if (const auto text = body.text(field, kMostMetadataValueBytes)) {
      echo[field] = *text;
    }
  }
  body.accept(
      {"service_tier",
       "prompt_cache_retention",
       "prompt_cache_options",
       "client_metadata",
       "access_programs"});
}

} // namespace

ResponseRequest read_response_request(
    const Json& value,
    const ServerLimits& limits,
    ResponseStore& store) {
  Fields body(value);
  ResponseRequest request;
  Job& job = request.job;
  Json echo{
      {"id", new_response_id("resp_")},
      {"object", "response"},
      {"created_at", unix_time()},
      {"background", false}};
  job.model = body.text("model", kMostNameBytes).value_or("");
  echo["model"] = job.model;

  Conversation conversation;
  const auto instructions = body.text("instructions");
  echo["instructions"] = value_or_null(instructions);
  ResponseInput input = read_response_input(
      body, limits, store, instructions, read_previous(body, store, echo));
  conversation.messages = std::move(input.messages);
  if (input.has_new) { // what is gone on from may end with an answer
    check_last_role(conversation, "input");
  }
  request.input = std::move(input.items);

  ResponseTools tools = read_response_tools(body, limits, echo);
  job.tool_choice = read_response_tool_choice(body, tools, echo);
  conversation.tools = std::move(tools.tools);
  request.namespaced = std::move(tools.namespaced);

  read_reasoning(body, conversation, echo);
  job.constraint = read_text(body, limits, echo);
  job.constraint_field = "text.format";
  job.sampling = read_sampling(body, limits);
  echo["temperature"] = value_or_null(job.sampling.temperature);
  echo["top_p"] = value_or_null(job.sampling.top_p);
  read_logprobs(body, job, echo);
  read_lengths(body, limits, job, echo);
  read_stream(body, request);
  request.store = body.boolean("store").value_or(true);
  echo["store"] = request.store;
  echo["service_tier"] = "default";
  echo["truncation"] = "disabled";
  read_metadata(body, echo);
  read_what_changes_nothing(body, echo);
  refuse_what_is_elsewhere(body);
  body.done();

  job.prompt = std::move(conversation);
  request.echo = std::make_shared<const std::string>(echo.dump());
  return request;
}

} // namespace mlx_flash::server
