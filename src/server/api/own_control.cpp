// own_control_routes() of own_routes.h: what changes the server's state. Who
// may ask for it is checked before, by the router.
#include <memory>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "server/api/openai_chat.h"
#include "server/api/own_objects.h"
#include "server/api/own_routes.h"
#include "server/api/start_answer.h"
#include "server/fields.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

HttpResponse accepted(Json body) {
  HttpResponse response = json_response(body);
  response.status = 202;
  return response;
}

// Answers as soon as the prompt is known to be good; what follows is nobody's,
// and nothing of the request is kept for it.
class HintSink : public AnswerSink {
 public:
  explicit HintSink(std::shared_ptr<HttpExchange> exchange)
      : exchange_(std::move(exchange)), id_(exchange_->request().id) {}

  void on_start(const JobStart& start) override {
    exchange_->send(accepted({
        {"accepted", true},
        {"model", start.model},
        {"prompt_tokens", start.prompt_tokens},
    }));
    exchange_ = nullptr;
  }
  void on_part(size_t, AnswerPart) override {}
  void on_choice_end(size_t, const ChoiceEnd&) override {}
  void on_end(const Usage&, const Timings&) override {}
  void on_error(const ApiError& error) override {
    if (exchange_) {
      exchange_->send(error_response(Dialect::openai, error));
    } else {
      log::info("[request] {}: the hint was not used: {}", id_, error.what());
    }
  }

 private:
  std::shared_ptr<HttpExchange> exchange_; // null after the answer
  const std::string id_;
};

// A text, or a chat request.
Job read_hint(const Json& body, const ServerLimits& limits) {
  Fields fields(body);
  if (!fields.has("prompt")) {
    ChatWishes wishes;
    Job chat = read_chat_request(body, limits, wishes);
    Job job;
    job.model = std::move(chat.model);
    job.prompt = std::move(chat.prompt);
    return job;
  }
  Job job;
  job.model = fields.text("model", kMostNameBytes).value_or("");
  job.prompt = fields.required_text("prompt");
  fields.refuse("messages", "and prompt are two prompts: send one");
  fields.done();
  return job;
}

// "This prompt will be asked for soon": it is read now, so that the prompt
// cache has it then.
void hint(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  Job job =
      read_hint(read_own_body(context, *exchange), context.options.limits);
  job.request_id = exchange->request().id;
  job.max_tokens = 1;
  start_answer(
      context, exchange, std::move(job), std::make_shared<HintSink>(exchange));
}

void switch_model(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const Json body = read_own_body(context, *exchange);
  Fields fields(body);
  const std::string model = fields.required_text("model", kMostNameBytes);
  fields.done();
  const Task withdraw = context.models.switch_to(
      model,
      [&context, exchange] {
        exchange->send(json_response(model_object(context.models.status())));
      },
      [exchange](const ApiError& error) {
        exchange->send(error_response(Dialect::openai, error));
      });
  exchange->on_disconnect(withdraw);
}

void read_nothing(ApiContext& context, const HttpExchange& exchange) {
  const Json body = read_own_body(context, exchange);
  Fields(body).done();
}

void release(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  read_nothing(context, *exchange);
  context.models.release();
  exchange->send(accepted(model_object(context.models.status())));
}

void shut_down(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  read_nothing(context, *exchange);
  exchange->send(accepted({{"status", "stopping"}}));
  // Behind the answer, which goes by way of the loop too.
  context.loop.post(context.shut_down);
}

} // namespace

std::vector<Route> own_control_routes() {
  return {
      {"POST", "/hints", Dialect::openai, hint, true},
      {"POST", "/v1/models/switch", Dialect::openai, switch_model, true},
      {"POST", "/release", Dialect::openai, release, true},
      {"POST", "/shutdown", Dialect::openai, shut_down, true},
  };
}

} // namespace mlx_flash::server
