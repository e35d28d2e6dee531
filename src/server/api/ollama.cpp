// The routes of Ollama's API (/api), for the clients that were written for it.
// Models cannot be changed over HTTP: what would do so is refused.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "server/api/ollama_embed.h"
#include "server/api/ollama_models.h"
#include "server/api/ollama_reply.h"
#include "server/api/ollama_request.h"
#include "server/api/ollama_stream.h"
#include "server/api/routes.h"
#include "server/api/start_answer.h"
#include "server/fields.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;
using ExchangePtr = std::shared_ptr<HttpExchange>;

namespace {

// Whose API this is: clients ask for at least some version of it.
constexpr const char* kOllamaVersion = "0.33.0";

Json read_body(const ApiContext& context, const ExchangePtr& exchange) {
  return parse_body(
      exchange->request().body, json_limits(context.options.limits));
}

void send_json(const ExchangePtr& exchange, std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  exchange->send(std::move(response));
}

// ---- /api/generate and /api/chat

// A request on its way to its job.
struct OllamaCall {
  ApiContext& context;
  ExchangePtr exchange;
  OllamaRequest request;
  std::shared_ptr<OllamaReply> reply;
};
using CallPtr = std::shared_ptr<OllamaCall>;

std::shared_ptr<AnswerSink> make_sink(const OllamaCall& call) {
  if (!call.request.stream) {
    return make_whole_ollama_answer(call.exchange, call.reply);
  }
  auto stream = std::make_shared<OllamaStream>(
      call.exchange,
      call.reply,
      call.context.loop,
      call.context.options.keep_alive_seconds);
  stream->wait();
  return stream;
}

// Throws ApiError for what the model cannot do.
void check_model(const OllamaRequest& request, const ModelLease& lease) {
  const Engine& engine = lease.engine();
  check_ollama_request(
      request, engine.plan(), abilities_of(engine.text().template_source()));
}

// The last thing that is done with a call.
void start_call(OllamaCall& call, const std::shared_ptr<AnswerSink>& sink) {
  start_answer(call.context, call.exchange, std::move(call.request.job), sink);
}

// What cannot be said of a model that is not loaded is checked when it is.
void load_and_start(const CallPtr& call) {
  const auto sink = make_sink(*call);
  const Task withdraw = call->context.models.acquire(
      call->request.job.model,
      [call, sink, since = now_seconds()](
          const std::shared_ptr<ModelLease>& lease) {
        call->reply->add_load_seconds(now_seconds() - since);
        try {
          check_model(call->request, *lease);
          start_call(*call, sink);
          // Until the job, which does so on the loop, has asked for its own.
          call->context.loop.post([lease] {});
        } catch (...) {
          sink->on_error(to_api_error(std::current_exception()));
        }
      },
      [sink](const ApiError& error) { sink->on_error(error); });
  call->exchange->on_disconnect(withdraw);
}

// An empty request: the model is loaded, or let go.
void load_or_release(const CallPtr& call) {
  ModelHost& models = call->context.models;
  const std::string& name = call->request.job.model;
  const auto keep = call->request.job.keep_seconds;
  if (keep && *keep == 0) {
    if (models.status().name == name) {
      models.release();
    }
    send_json(call->exchange, call->reply->done("unload"));
    return;
  }
  const Task withdraw = models.acquire(
      name,
      [call, keep](const std::shared_ptr<ModelLease>& lease) {
        if (keep) {
          lease->keep(*keep);
        }
        send_json(call->exchange, call->reply->done("load"));
      },
      [call](const ApiError& error) {
        call->exchange->send(error_response(Dialect::ollama, error));
      });
  call->exchange->on_disconnect(withdraw);
}

void handle_answer(
    ApiContext& context,
    const ExchangePtr& exchange,
    OllamaRequest request) {
  const ServedModel& model = find_ollama_model(context.models, request.model);
  request.job.model = model.name;
  request.job.request_id = exchange->request().id;
  const auto reply = std::make_shared<OllamaReply>(request.kind, request.model);
  const CallPtr call(
      new OllamaCall{context, exchange, std::move(request), reply});
  const OllamaRequest& wishes = call->request;
  if (wishes.load_only) {
    load_or_release(call);
    return;
  }
  if (wishes.context || wishes.must_think || wishes.must_call) {
    const auto lease = context.models.current();
    if (!lease || lease->model().name != model.name) {
      load_and_start(call);
      return;
    }
    check_model(wishes, *lease);
  }
  start_call(*call, make_sink(*call));
}

void handle_generate(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  handle_answer(
      context,
      exchange,
      read_ollama_generate(
          read_body(context, exchange), context.options.limits));
}

void handle_chat(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  handle_answer(
      context,
      exchange,
      read_ollama_chat(read_body(context, exchange), context.options.limits));
}

// ---- /api/embed and /api/embeddings

void handle_embed(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  embed_for_ollama(
      context,
      exchange,
      read_ollama_embed(read_body(context, exchange), context.options.limits),
      OllamaEmbedRoute::embed);
}

void handle_embeddings(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  embed_for_ollama(
      context,
      exchange,
      read_ollama_embeddings(
          read_body(context, exchange), context.options.limits),
      OllamaEmbedRoute::embeddings);
}

// ---- Models and the server itself

void handle_tags(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  send_json(exchange, ollama_tags(context.models));
}

void handle_ps(ApiContext& context, ExchangePtr exchange, const std::string&) {
  send_json(
      exchange, ollama_ps(context.models, std::chrono::system_clock::now()));
}

void handle_show(
    ApiContext& context,
    ExchangePtr exchange,
    const std::string&) {
  const std::string name = read_ollama_show(read_body(context, exchange));
  const ServedModel& model = find_ollama_model(context.models, name);
  send_json(exchange, ollama_show(context.models, model, name));
}

void handle_version(ApiContext&, ExchangePtr exchange, const std::string&) {
  send_json(
      exchange,
      Json{{"version", kOllamaVersion}, {"server", "mlx-flash"}}.dump());
}

// Many clients look for an Ollama by asking for this very text. A browser is
// told what this is.
void handle_root(ApiContext&, ExchangePtr exchange, const std::string&) {
  const bool browser = exchange->request().header("accept").find("text/html") !=
      std::string_view::npos;
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = browser
      ? "mlx-flash is running, with OpenAI's, Anthropic's and Ollama's API.\n"
      : "Ollama is running";
  exchange->send(std::move(response));
}

[[noreturn]] void
handle_change(ApiContext&, ExchangePtr exchange, const std::string&) {
  throw ApiError(
      ApiErrorKind::forbidden,
      fmt::format(
          "{} is not served: which models there are is said when the server "
          "starts, and cannot be changed over HTTP",
          exchange->request().path));
}

} // namespace

std::vector<Route> ollama_routes() {
  std::vector<Route> routes;
  const auto add = [&](const char* method,
                       const char* path,
                       decltype(Route::handle) handle,
                       bool slow) {
    routes.push_back({method, path, Dialect::ollama, std::move(handle), slow});
  };
  add("POST", "/api/generate", handle_generate, true);
  add("POST", "/api/chat", handle_chat, true);
  add("POST", "/api/embed", handle_embed, true);
  add("POST", "/api/embeddings", handle_embeddings, true);
  add("POST", "/api/show", handle_show, true);
  // These read the files of model folders.
  add("GET", "/api/ps", handle_ps, true);
  add("GET", "/api/tags", handle_tags, true);
  add("GET", "/api/version", handle_version, false);
  add("GET", "/", handle_root, false);
  for (const char* path :
       {"/api/pull", "/api/push", "/api/create", "/api/copy"}) {
    add("POST", path, handle_change, false);
  }
  add("DELETE", "/api/delete", handle_change, false);
  for (const char* method : {"POST", "HEAD"}) {
    add(method, "/api/blobs/{digest}", handle_change, false);
  }
  return routes;
}

} // namespace mlx_flash::server
