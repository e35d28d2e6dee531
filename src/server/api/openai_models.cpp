#include "server/api/openai_models.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/rfc3339.h"
#include "server/api/embedding_reply.h"
#include "server/api/openai_common.h"
#include "server/api/openai_fields.h"
#include "server/api/openai_inputs.h"
#include "server/api/routes.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

const ServedModel& find_model(const ModelHost& host, const std::string& name) {
  const ServedModel* model =
      name.empty() ? &host.models().front() : host.find(name);
  if (!model) {
    throw ApiError(
        ApiErrorKind::not_found,
        fmt::format(
            "there is no model '{}': /v1/models lists them",
            name.substr(0, kMostNameBytes)))
        .at("model")
        .with_code("model_not_found");
  }
  return *model;
}

void send_json(HttpExchange& exchange, const Json& value) {
  HttpResponse response;
  response.body = to_text(value);
  exchange.send(std::move(response));
}

void handle_embeddings(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  using Form = EmbeddingReply::Form;
  const ServerLimits& limits = context.options.limits;
  EmbeddingRequest request = read_embedding_request(
      parse_body(exchange->request().body, json_limits(limits)), limits);
  const auto reply = std::make_shared<EmbeddingReply>(
      exchange,
      Dialect::openai,
      request.base64 ? Form::base64 : Form::numbers,
      embedding_list);
  start_embeddings(context, exchange, std::move(request.job), reply);
}

} // namespace

Json model_object(const std::string& name, int64_t created) {
  const std::chrono::system_clock::time_point moment{
      std::chrono::seconds(created)};
  return {
      {"id", name},
      {"object", "model"},
      {"created", created},
      {"owned_by", "mlx-flash"},
      // What Anthropic's clients read.
      {"type", "model"},
      {"display_name", name},
      {"created_at", rfc3339(moment)},
      {"lifecycle", "active"},
  };
}

Json model_list(const std::vector<ServedModel>& models, int64_t created) {
  Json data = Json::array();
  for (const ServedModel& model : models) {
    data.push_back(model_object(model.name, created));
  }
  const Json first = data.empty() ? Json(nullptr) : data.front()["id"];
  const Json last = data.empty() ? Json(nullptr) : data.back()["id"];
  return {
      {"object", "list"},
      {"data", std::move(data)},
      {"has_more", false},
      {"first_id", first},
      {"last_id", last},
  };
}

EmbeddingRequest read_embedding_request(
    const Json& body,
    const ServerLimits& limits) {
  Fields fields(body);
  EmbeddingRequest request;
  request.job.model = fields.text("model", kMostNameBytes).value_or("");
  request.job.inputs = read_inputs(fields, "input", limits.embedding_inputs);
  request.base64 =
      fields.word("encoding_format", {"float", "base64"}) == "base64";
  if (const auto dimensions = fields.integer("dimensions", 1, 1 << 20)) {
    request.job.dimensions = static_cast<uint64_t>(*dimensions);
  }
  accept_harmless(fields);
  fields.done();
  return request;
}

std::string embedding_list(
    const std::vector<std::string>& embeddings,
    const EmbeddingsEnd& end) {
  std::string text = R"({"object":"list","data":[)";
  for (size_t i = 0; i < embeddings.size(); ++i) {
    text += fmt::format(
        R"({}{{"object":"embedding","index":{},"embedding":)",
        i > 0 ? "," : "",
        i);
    text += embeddings[i];
    text += '}';
  }
  text += fmt::format(
      R"(],"model":{},"usage":{}}})",
      to_text(end.model),
      to_text(
          {{"prompt_tokens", end.prompt_tokens},
           {"total_tokens", end.prompt_tokens}}));
  return text;
}

std::vector<Route> openai_models_routes() {
  // The server's own start: what a folder says of its age is nobody's business.
  const int64_t created = make_head("", "", "").created;

  const auto list = [created](
                        ApiContext& context,
                        const std::shared_ptr<HttpExchange>& exchange,
                        const std::string&) {
    send_json(*exchange, model_list(context.models.models(), created));
  };
  const auto one = [created](
                       ApiContext& context,
                       const std::shared_ptr<HttpExchange>& exchange,
                       const std::string& name) {
    send_json(
        *exchange,
        model_object(find_model(context.models, name).name, created));
  };
  return {
      {"GET", "/v1/models", Dialect::openai, list},
      {"GET", "/v1/models/{name...}", Dialect::openai, one},
      {"POST", "/v1/embeddings", Dialect::openai, handle_embeddings, true}};
}

} // namespace mlx_flash::server
