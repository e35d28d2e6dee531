#include "server/api/ollama_request.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/ollama_messages.h"
#include "server/api/ollama_options.h"
#include "server/api_error.h"
#include "server/fields.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

constexpr size_t kMostModelBytes = 512;

std::string read_model(Fields& body, const char* field) {
  std::string model = body.required_text(field, kMostModelBytes);
  if (model.empty()) {
    body.reject(field, "must not be empty");
  }
  return model;
}

void read_logprobs(Fields& body, Job& job) {
  job.logprobs = body.boolean("logprobs").value_or(false);
  job.top_logprobs = static_cast<int>(
      body.integer("top_logprobs", 0, kMostTopLogprobs).value_or(0));
  if (job.top_logprobs > 0 && !job.logprobs) {
    body.reject("top_logprobs", "needs \"logprobs\": true");
  }
}

void refuse_cutting(Fields& body) {
  body.refuse(
      "truncate",
      "cannot be true: a prompt that does not fit is an error",
      {"false"});
  body.refuse(
      "shift",
      "cannot be true: an answer ends where the context does",
      {"false"});
  body.refuse(
      "_debug_render_only",
      "is not supported; /apply-template renders a conversation",
      {"false"});
}

// The fields that both kinds have, but for `think`.
OllamaRequest read_common(Fields& body, const ServerLimits& limits) {
  OllamaRequest request;
  request.model = read_model(body, "model");
  request.stream = body.boolean("stream").value_or(true);
  OllamaOptions options = read_ollama_options(body, limits);
  request.context = options.context;
  request.job.sampling = std::move(options.sampling);
  request.job.max_tokens = options.max_tokens;
  request.job.stop_strings = std::move(options.stop_strings);
  request.job.constraint = read_ollama_format(body, limits);
  request.job.constraint_field = body.path("format");
  request.job.keep_seconds = read_ollama_keep_alive(body);
  read_logprobs(body, request.job);
  refuse_cutting(body);
  return request;
}

void set_thinking(
    const OllamaThink& think,
    OllamaRequest& request,
    Conversation& conversation) {
  request.must_think = think.wanted.value_or(false);
  conversation.thinking = think.wanted;
  if (!think.effort.empty()) {
    conversation.template_values =
        Json{{"reasoning_effort", think.effort}}.dump();
  }
}

void refuse_generate_only(Fields& body) {
  body.refuse(
      "template",
      "is not supported: the model's own is used; \"raw\" takes a prompt as it "
      "is",
      {"\"\""});
  body.refuse(
      "suffix",
      "is not supported; \"raw\" takes a prompt with the model's own marks for "
      "filling in",
      {"\"\""});
  body.refuse(
      "context",
      "is not supported; /api/chat takes the conversation itself",
      {"[]"});
  refuse_ollama_images(body);
}

Conversation conversation_of(std::string system, std::string prompt) {
  Conversation conversation;
  if (!system.empty()) {
    conversation.messages.push_back({"system", std::move(system)});
  }
  conversation.messages.push_back({"user", std::move(prompt)});
  return conversation;
}

} // namespace

OllamaRequest read_ollama_generate(
    const Json& value,
    const ServerLimits& limits) {
  Fields body(value);
  OllamaRequest request = read_common(body, limits);
  request.kind = OllamaKind::generate;
  std::string prompt = body.text("prompt").value_or("");
  std::string system = body.text("system").value_or("");
  const bool raw = body.boolean("raw").value_or(false);
  const OllamaThink think = read_ollama_think(body);
  refuse_generate_only(body);
  body.done();

  request.load_only = prompt.empty();
  if (!raw) {
    Conversation conversation =
        conversation_of(std::move(system), std::move(prompt));
    set_thinking(think, request, conversation);
    request.job.prompt = std::move(conversation);
    return request;
  }
  if (!system.empty()) {
    body.reject("system", "has no place in a raw prompt");
  }
  if (think.wanted.value_or(false)) {
    body.reject("think", "has no effect on a raw prompt");
  }
  request.job.prompt = std::move(prompt);
  return request;
}

OllamaRequest read_ollama_chat(const Json& value, const ServerLimits& limits) {
  Fields body(value);
  OllamaRequest request = read_common(body, limits);
  request.kind = OllamaKind::chat;
  Conversation conversation;
  conversation.messages = read_ollama_messages(body, limits);
  conversation.tools = read_ollama_tools(body, limits);
  set_thinking(read_ollama_think(body), request, conversation);
  body.done();

  check_last_role(conversation);
  request.load_only = conversation.messages.empty();
  request.must_call = !conversation.tools.empty();
  request.job.prompt = std::move(conversation);
  return request;
}

OllamaEmbedRequest read_ollama_embed(
    const Json& value,
    const ServerLimits& limits) {
  Fields body(value);
  OllamaEmbedRequest request;
  request.model = read_model(body, "model");
  auto inputs = body.texts(
      "input", limits.embedding_inputs, std::numeric_limits<size_t>::max());
  if (!inputs) {
    body.reject("input", "is missing");
  }
  // One empty text has the model loaded, as an empty list does.
  if (body.value("input")->is_array() || !inputs->front().empty()) {
    request.inputs = std::move(*inputs);
  }
  request.truncate = body.boolean("truncate").value_or(true);
  if (const auto dimensions = body.integer("dimensions", 1, 1 << 20)) {
    request.dimensions = static_cast<uint64_t>(*dimensions);
  }
  request.keep_seconds = read_ollama_keep_alive(body);
  read_ollama_options(body, limits);
  body.done();
  return request;
}

OllamaEmbedRequest read_ollama_embeddings(
    const Json& value,
    const ServerLimits& limits) {
  Fields body(value);
  OllamaEmbedRequest request;
  request.model = read_model(body, "model");
  std::string prompt = body.required_text("prompt");
  if (!prompt.empty()) {
    request.inputs = {std::move(prompt)};
  }
  request.keep_seconds = read_ollama_keep_alive(body);
  read_ollama_options(body, limits);
  body.done();
  return request;
}

std::string read_ollama_show(const Json& value) {
  Fields body(value);
  // `name` is what older clients call it.
  const bool old = !body.has("model") && body.has("name");
  std::string model = read_model(body, old ? "name" : "model");
  // Tensors and vocabularies are not shown either way.
  body.accept({"name", "verbose"});
  for (const char* field : {"system", "template"}) {
    body.refuse(field, "is not supported", {"\"\""});
  }
  body.refuse("options", "is not supported", {"{}"});
  body.done();
  return model;
}

} // namespace mlx_flash::server
