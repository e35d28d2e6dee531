// own_status_routes() of own_routes.h.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "server/api/own_hints.h"
#include "server/api/own_objects.h"
#include "server/api/own_routes.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

// What there is to say of this moment. The lease keeps the engine while its
// figures are in use.
struct Moment {
  explicit Moment(ApiContext& context)
      : status(context.models.status()),
        lease(context.models.current()),
        running(context.generations.list()) {
    if (lease) {
      stats = lease->engine().stats();
    }
    for (const Generations::Running& each : running) {
      gauges.waiting += each.state == "queued" || each.state == "loading";
    }
    gauges.running = running.size() - gauges.waiting;
    gauges.connections = context.connections ? context.connections() : 0;
    gauges.model_loaded = lease != nullptr;
    gauges.model = lease ? lease->model().name : std::string();
  }

  const Stats* engine_stats() const {
    return lease ? &stats : nullptr;
  }
  const Plan* plan() const {
    return lease ? &lease->engine().plan() : nullptr;
  }

  ModelStatus status;
  std::shared_ptr<ModelLease> lease; // null while no model is loaded
  std::vector<Generations::Running> running;
  Stats stats; // of a loaded one
  Metrics::Gauges gauges;
};

HttpResponse health(ApiContext&) {
  return json_response({{"status", "ok"}});
}

std::string why_not_ready(const ModelStatus& status) {
  switch (status.state) {
    case ModelStatus::State::loading:
      return fmt::format(
          "{} is being loaded, for {:.1f} s so far",
          status.name,
          status.loading_seconds);
    case ModelStatus::State::failed:
      return status.error;
    case ModelStatus::State::released:
    case ModelStatus::State::ready:
      break;
  }
  return "no model is loaded; the next request loads it";
}

HttpResponse ready(ApiContext& context) {
  const ModelStatus status = context.models.status();
  if (status.state == ModelStatus::State::ready) {
    return json_response(model_object(status));
  }
  const ApiError error =
      ApiError(ApiErrorKind::unavailable, why_not_ready(status))
          .with_code(
              status.state == ModelStatus::State::loading ? "model_loading"
                                                          : "model_not_loaded");
  HttpResponse response = error_response(Dialect::openai, error);
  Json body = Json::parse(response.body);
  body.update(model_object(status));
  response.body = json_response(body).body;
  return response;
}

HttpResponse metrics(ApiContext& context) {
  const Moment now(context);
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = context.metrics.prometheus_text(
      now.gauges, now.engine_stats(), now.plan());
  return response;
}

HttpResponse status(ApiContext& context) {
  const Moment now(context);
  Json body = model_object(now.status);
  body["version"] = context.metrics.version();
  body["uptime_seconds"] = context.metrics.uptime_seconds();
  body["connections"] = now.gauges.connections;
  body["running"] = Json::array();
  for (const Generations::Running& each : now.running) {
    body["running"].push_back(running_object(each));
  }
  const ServerLimits& limits = context.options.limits;
  body["queue"] = {
      {"waiting", now.gauges.waiting},
      {"limit", limits.queue},
      {"in_progress", now.gauges.running},
      {"parallel", limits.parallel},
  };
  body["totals"] = totals_object(context.metrics.totals());
  body["stats"] = now.lease ? stats_object(now.stats) : Json(nullptr);
  body["memory"] =
      now.lease ? memory_object(now.stats, *now.plan()) : Json(nullptr);
  return json_response(body);
}

HttpResponse config(ApiContext& context) {
  return json_response(config_object(context.options));
}

HttpResponse cache_stats(ApiContext& context) {
  const Moment now(context);
  return json_response({
      {"model", now.lease ? Json(now.gauges.model) : Json(nullptr)},
      {"expert_cache",
       now.lease ? expert_cache_object(now.stats) : Json(nullptr)},
      {"prompt_cache", prompt_cache_object(context.metrics.totals())},
      {"kv_cache", now.lease ? kv_cache_object(now.stats) : Json(nullptr)},
      {"disk_cache", now.lease ? disk_cache_object(now.stats) : Json(nullptr)},
  });
}

HttpResponse hints(ApiContext& context) {
  const Moment now(context);
  HintFacts facts;
  facts.model = now.status;
  facts.stats = now.engine_stats();
  facts.plan = now.plan();
  facts.running = now.gauges.running;
  facts.waiting = now.gauges.waiting;
  facts.parallel = context.options.limits.parallel;
  Json list = Json::array();
  for (const Hint& hint : find_hints(facts)) {
    list.push_back({
        {"priority", hint.priority},
        {"action", hint.action},
        {"message", hint.message},
    });
  }
  return json_response({{"hints", std::move(list)}});
}

Route get(const char* path, HttpResponse (*answer)(ApiContext&)) {
  const auto handle = [answer](
                          ApiContext& context,
                          const std::shared_ptr<HttpExchange>& exchange,
                          const std::string&) {
    exchange->send(answer(context));
  };
  return {"GET", path, Dialect::openai, handle};
}

} // namespace

std::vector<Route> own_status_routes() {
  return {
      get("/health", health),
      get("/ready", ready),
      get("/metrics", metrics),
      get("/status", status),
      get("/v1/config", config),
      get("/cache/stats", cache_stats),
      get("/hints", hints),
  };
}

} // namespace mlx_flash::server
