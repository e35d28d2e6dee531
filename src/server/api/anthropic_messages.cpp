// POST /v1/messages and /v1/messages/count_tokens. Headers of the API need no
// word here: versions and betas differ in fields that are all known.
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/answer_collector.h"
#include "server/api/anthropic_message.h"
#include "server/api/anthropic_request.h"
#include "server/api/anthropic_stream.h"
#include "server/api/routes.h"
#include "server/api/start_answer.h"
#include "server/fields.h"

namespace mlx_flash::server {

namespace {

AnthropicRequest read_request(
    const ApiContext& context,
    const HttpRequest& request,
    AnthropicPurpose purpose) {
  const ServerLimits& limits = context.options.limits;
  AnthropicRequest read = read_anthropic_request(
      parse_body(request.body, json_limits(limits)), purpose, limits);
  read.job.request_id = request.id;
  return read;
}

void send_json(HttpExchange& exchange, const nlohmann::ordered_json& value) {
  HttpResponse response;
  response.body = anthropic_dump(value);
  exchange.send(std::move(response));
}

void send_error(HttpExchange& exchange, const ApiError& error) {
  exchange.send(anthropic_error(error));
}

std::shared_ptr<AnswerSink> make_collector(
    AnthropicAnswer answer,
    const std::shared_ptr<HttpExchange>& exchange) {
  return std::make_shared<AnswerCollector>(
      1,
      exchange,
      [answer = std::move(answer), exchange](const CollectedAnswer& collected) {
        try {
          send_json(*exchange, anthropic_message(answer, collected));
        } catch (...) {
          send_error(*exchange, to_api_error(std::current_exception()));
        }
      },
      [exchange](const ApiError& error) { send_error(*exchange, error); });
}

void create_message(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    const std::string&) {
  AnthropicRequest request =
      read_request(context, exchange->request(), AnthropicPurpose::message);
  AnthropicAnswer answer = make_anthropic_answer(request);
  if (!request.stream) {
    const auto collector = make_collector(std::move(answer), exchange);
    start_answer(context, exchange, std::move(request.job), collector);
    return;
  }
  const auto stream = std::make_shared<AnthropicStream>(
      std::move(answer),
      exchange,
      context.loop,
      context.options.keep_alive_seconds);
  stream->wait();
  start_answer(context, exchange, std::move(request.job), stream);
}

void send_count(
    HttpExchange& exchange,
    const Generations& generations,
    const Conversation& conversation,
    const ModelLease& lease) {
  try {
    send_json(
        exchange,
        {{"input_tokens", generations.count_tokens(conversation, lease)}});
  } catch (...) {
    send_error(exchange, to_api_error(std::current_exception()));
  }
}

void count_tokens(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    const std::string&) {
  const AnthropicRequest request = read_request(
      context, exchange->request(), AnthropicPurpose::count_tokens);
  const auto count = [&context,
                      exchange,
                      conversation =
                          std::get<Conversation>(request.job.prompt)](
                         const std::shared_ptr<ModelLease>& lease) {
    const Generations& generations = context.generations;
    const bool taken =
        context.workers.post([&generations, exchange, conversation, lease] {
          send_count(*exchange, generations, conversation, *lease);
        });
    if (!taken) {
      send_error(
          *exchange,
          ApiError(
              ApiErrorKind::rate_limited,
              "too many conversations wait to be counted; try again later"));
    }
  };
  const Task withdraw = context.models.acquire(
      request.job.model, count, [exchange](const ApiError& error) {
        send_error(*exchange, error);
      });
  exchange->on_disconnect(withdraw);
}

} // namespace

std::vector<Route> anthropic_routes() {
  return {
      {"POST", "/v1/messages", Dialect::anthropic, create_message, true},
      {"POST",
       "/v1/messages/count_tokens",
       Dialect::anthropic,
       count_tokens,
       true},
  };
}

} // namespace mlx_flash::server
