#include "server/server.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "server/access.h"
#include "server/counted_engine.h"
#include "server/generations.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/router.h"
#include "server/workers.h"

namespace mlx_flash::server {

namespace {

constexpr size_t kMostWaiting = 256; // requests for a worker
// For errors to reach the clients whose answers are cut off.
constexpr double kFarewellSeconds = 1;

size_t worker_count() {
  // Most cores are the engine's.
  const size_t cores = std::thread::hardware_concurrency();
  return std::clamp<size_t>(cores / 4, 2, kMostWorkers);
}

std::vector<Route> all_routes() {
  std::vector<Route> all;
  for (auto* routes :
       {openai_chat_routes,
        openai_completions_routes,
        openai_responses_routes,
        openai_models_routes,
        anthropic_routes,
        ollama_routes,
        own_routes}) {
    for (Route& route : routes()) {
      all.push_back(std::move(route));
    }
  }
  return all;
}

// Each engine's last figures are kept for the metrics.
ServerOptions counted(ServerOptions options, Metrics& metrics) {
  options.open_engine = [open = std::move(options.open_engine),
                         &metrics](const EngineOptions& each) {
    return count_engine(open(each), metrics);
  };
  return options;
}

std::vector<std::string> names_of(const ServedModel& model) {
  std::vector<std::string> names = model.aliases;
  names.push_back(model.name);
  return names;
}

// Clients would reach only the first of them.
void check_names(const std::vector<ServedModel>& models) {
  std::map<std::string, size_t> owners;
  for (size_t i = 0; i < models.size(); ++i) {
    for (const std::string& name : names_of(models[i])) {
      if (owners.emplace(name, i).first->second != i) {
        fail(
            ErrorCode::invalid_argument,
            "[server] two models would be called '{}'; models are called as "
            "their folders are: rename one of these or name it by a link, or "
            "give another --alias",
            name);
      }
    }
  }
}

ServerOptions checked(ServerOptions options) {
  if (options.models.empty()) {
    fail(
        ErrorCode::invalid_argument,
        "[server] there is no model to serve; name one with --model");
  }
  check_names(options.models);
  if (!options.open_engine) {
    fail(ErrorCode::internal, "[server] nothing is given to open engines with");
  }
  return options;
}

} // namespace

// Destroyed from below: each part may use those above it.
struct Server::State {
  explicit State(ServerOptions given)
      : metrics(given.version),
        options(counted(checked(std::move(given)), metrics)),
        access(options),
        http(options.limits),
        workers(worker_count(), kMostWaiting),
        models(options, http),
        generations(options, http, workers, models, metrics),
        context{
            options,
            http,
            workers,
            models,
            generations,
            metrics,
            [this] { begin_drain(); },
            [this] { return http.connections(); }},
        router(all_routes(), access, context) {}

  // First what calls the parts, so that they go undisturbed.
  ~State() {
    http.stop();
    workers.stop();
  }

  void begin_drain();
  void say_stopped();

  Metrics metrics;
  const ServerOptions options;
  const Access access;
  HttpServer http;
  WorkerPool workers;
  ModelHost models;
  Generations generations;
  ApiContext context;
  Router router;

  std::mutex mutex;
  std::condition_variable changed;
  bool stopped = false;
};

void Server::State::begin_drain() {
  const double seconds = options.limits.drain_seconds;
  log::info("[server] stopping; answers in progress have {} s to end", seconds);
  http.drain(seconds + kFarewellSeconds, [this] { say_stopped(); });
  http.post_after(seconds, [this] { generations.cancel_all(); });
}

void Server::State::say_stopped() {
  std::lock_guard lock(mutex);
  stopped = true;
  changed.notify_all();
}

Server::Server(ServerOptions options)
    : state_(std::make_unique<State>(std::move(options))) {}

Server::~Server() = default;

void Server::start() {
  state_->http.listen(
      state_->access.host(), state_->options.port, state_->router.service());
  state_->models.begin();
}

uint16_t Server::port() const {
  return state_->http.port();
}

void Server::begin_drain() {
  state_->begin_drain();
}

void Server::stop_now() {
  state_->http.drain(0, [state = state_.get()] { state->say_stopped(); });
}

void Server::wait() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->stopped; });
}

} // namespace mlx_flash::server
