#include "server/api/ollama_embed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "server/api/embedding_reply.h"
#include "server/api/ollama_models.h"
#include "server/embedding_inputs.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

int64_t nanoseconds_of(double seconds) {
  return std::llround(std::clamp(seconds, 0.0, 9e9) * 1e9);
}

// `model` is what the request calls it.
std::string embed_body(
    const std::string& model,
    const std::vector<std::string>& embeddings,
    const EmbeddingsEnd& end) {
  std::string text = "{\"model\":" +
      Json(model).dump(-1, ' ', false, Json::error_handler_t::replace) +
      ",\"embeddings\":[";
  for (size_t i = 0; i < embeddings.size(); ++i) {
    text += i > 0 ? "," : "";
    text += embeddings[i];
  }
  return text +
      fmt::format(
             R"(],"total_duration":{},"load_duration":{},)"
             R"("prompt_eval_count":{}}})",
             nanoseconds_of(end.timings.total_seconds),
             nanoseconds_of(end.timings.load_seconds),
             end.prompt_tokens);
}

std::string one_body(const std::vector<std::string>& embeddings) {
  return "{\"embedding\":" + (embeddings.empty() ? "[]" : embeddings[0]) + "}";
}

EmbeddingReply::Body body_of(const std::string& model, OllamaEmbedRoute route) {
  if (route == OllamaEmbedRoute::embeddings) {
    return [](const auto& embeddings, const auto&) {
      return one_body(embeddings);
    };
  }
  return [model](const auto& embeddings, const auto& end) {
    return embed_body(model, embeddings, end);
  };
}

void only_load(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    const ServedModel& model,
    std::optional<double> keep_seconds,
    const std::shared_ptr<EmbeddingReply>& reply) {
  const Task withdraw = context.models.acquire(
      model.name,
      [reply, keep_seconds, begun = now_seconds()](
          const std::shared_ptr<ModelLease>& lease) {
        if (keep_seconds) {
          lease->keep(*keep_seconds);
        }
        EmbeddingsEnd end;
        end.timings.load_seconds = now_seconds() - begun;
        end.timings.total_seconds = end.timings.load_seconds;
        reply->on_end(end);
      },
      [reply](const ApiError& error) { reply->on_error(error); });
  exchange->on_disconnect(withdraw);
}

} // namespace

void embed_for_ollama(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    OllamaEmbedRequest request,
    OllamaEmbedRoute route) {
  const ServedModel& model = find_ollama_model(context.models, request.model);
  const auto reply = std::make_shared<EmbeddingReply>(
      exchange,
      Dialect::ollama,
      EmbeddingReply::Form::numbers,
      body_of(request.model, route));
  EmbeddingJob job;
  job.model = model.name;
  job.field = route == OllamaEmbedRoute::embed ? "input" : "prompt";
  job.inputs.assign(request.inputs.begin(), request.inputs.end());
  job.dimensions = request.dimensions;
  job.truncate = request.truncate;
  job.keep_seconds = request.keep_seconds;
  if (job.inputs.empty()) {
    check_embeddings(job, model);
    only_load(context, exchange, model, job.keep_seconds, reply);
    return;
  }
  start_embeddings(context, exchange, std::move(job), reply);
}

} // namespace mlx_flash::server
