#include "server/api/openai_chat.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/openai_chat_answer.h"
#include "server/api/openai_common.h"
#include "server/api/openai_messages.h"
#include "server/api/routes.h"
#include "server/api/start_answer.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

// Three fields can say it; they must say the same.
void set_thinking(
    const Fields& fields,
    const char* field,
    bool thinking,
    Conversation& conversation) {
  if (conversation.thinking.value_or(thinking) != thinking) {
    fields.reject(
        field, "contradicts another field about whether the model thinks");
  }
  conversation.thinking = thinking;
}

// What the template is given beside messages and tools.
void read_thinking(
    Fields& fields,
    const ServerLimits& limits,
    Conversation& conversation) {
  Json values = Json::object();
  if (const Json* given = fields.object("chat_template_kwargs")) {
    Fields inner(*given, fields.path("chat_template_kwargs"));
    inner.refuse("messages", "is not to be overridden");
    inner.refuse("tools", "is not to be overridden");
    if (const auto thinking = inner.boolean("enable_thinking")) {
      set_thinking(inner, "enable_thinking", *thinking, conversation);
    }
    values = *given;
    values.erase("enable_thinking");
  }
  if (const auto thinking = fields.boolean("enable_thinking")) {
    set_thinking(fields, "enable_thinking", *thinking, conversation);
  }
  if (const auto effort = fields.word(
          "reasoning_effort",
          {"none", "minimal", "low", "medium", "high", "xhigh", "max"})) {
    const bool thinking = *effort != "none" && *effort != "minimal";
    set_thinking(fields, "reasoning_effort", thinking, conversation);
    // Some templates know how much, too.
    values["reasoning_effort"] = *effort;
  }
  if (!values.empty()) {
    conversation.template_values = values.dump();
    if (conversation.template_values.size() > limits.schema_bytes) {
      fields.reject(
          "chat_template_kwargs",
          fmt::format("must be at most {} bytes of JSON", limits.schema_bytes));
    }
  }
}

void read_logprobs(Fields& fields, Job& job) {
  job.logprobs = fields.boolean("logprobs").value_or(false);
  job.top_logprobs = static_cast<int>(
      fields.integer("top_logprobs", 0, kMostTopLogprobs).value_or(0));
  if (job.top_logprobs > 0 && !job.logprobs) {
    fields.reject("top_logprobs", "is for requests with logprobs: true");
  }
}

void refuse_unsupported(Fields& fields) {
  fields.refuse("modalities", "can be text alone", {"[\"text\"]", "[]"});
  fields.refuse("audio", "cannot be made");
  fields.refuse("web_search_options", "is not supported: nothing is searched");
  fields.refuse("moderation", "is not supported: nothing is moderated");
  fields.refuse(
      "verbosity",
      "is not supported: ask for a length in a message",
      {"\"medium\""});
}

void handle_chat(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const ServerLimits& limits = context.options.limits;
  const HttpRequest& request = exchange->request();
  ChatWishes wishes;
  Job job = read_chat_request(
      parse_body(request.body, json_limits(limits)), limits, wishes);
  check_last_role(std::get<Conversation>(job.prompt));
  job.request_id = request.id;
  const ChatForm form{
      make_head("chatcmpl-", request.id, job.model),
      job.choices,
      job.logprobs,
      wishes};
  const auto sink = wishes.stream
      ? make_chat_stream(
            form,
            OpenAiStream::make(
                exchange, context.loop, context.options.keep_alive_seconds))
      : make_chat_collector(form, exchange);
  start_answer(context, exchange, std::move(job), sink);
}

} // namespace

Job read_chat_request(
    const Json& body,
    const ServerLimits& limits,
    ChatWishes& wishes) {
  Fields fields(body);
  Job job;
  job.model = fields.text("model", kMostNameBytes).value_or("");
  Conversation conversation;
  conversation.messages = read_messages(fields, limits);
  read_tools(fields, limits, conversation.tools, job.tool_choice);
  read_thinking(fields, limits, conversation);
  job.prompt = std::move(conversation);
  job.sampling = read_sampling(fields, limits);
  job.max_tokens = read_max_tokens(fields, limits);
  job.stop_strings = read_stop_strings(fields, limits);
  job.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  read_constraint(fields, limits, job);
  job.choices = read_choices(fields, limits);
  read_logprobs(fields, job);
  wishes = read_stream_wishes(fields);
  refuse_unsupported(fields);
  accept_harmless(fields);
  fields.done();
  return job;
}

std::vector<Route> openai_chat_routes() {
  return {{"POST", "/v1/chat/completions", Dialect::openai, handle_chat, true}};
}

} // namespace mlx_flash::server
