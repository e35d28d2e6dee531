#include "server/router.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

#include "base/log.h"

namespace mlx_flash::server {

namespace {

constexpr const char* kOther = "other"; // as the pattern of no route
constexpr size_t kMostShown = 200; // bytes of a path in an error

// Of a path that is not known, or not to be known yet.
Dialect dialect_of(const std::string& path) {
  if (path.starts_with("/v1/messages")) {
    return Dialect::anthropic;
  }
  return path.starts_with("/api/") ? Dialect::ollama : Dialect::openai;
}

ApiErrorKind kind_of(int status) {
  switch (status) {
    case 408:
      return ApiErrorKind::timeout;
    case 413:
      return ApiErrorKind::too_large;
    case 503:
      return ApiErrorKind::unavailable;
    default:
      return ApiErrorKind::invalid_request;
  }
}

HttpResponse no_content(Headers headers) {
  HttpResponse response;
  response.status = 204;
  response.headers = std::move(headers);
  return response;
}

void append(Headers& to, const Headers& headers) {
  to.insert(to.end(), headers.begin(), headers.end());
}

} // namespace

Router::Router(
    std::vector<Route> routes,
    const Access& access,
    ApiContext& context)
    : table_(std::move(routes)), access_(access), context_(context) {}

HttpService Router::service() {
  HttpService service;
  service.handle = [this](auto exchange) { handle(std::move(exchange)); };
  service.refuse_early = [this](const auto& request) {
    return refuse_early(request);
  };
  service.explain = [this](
                        const auto& request, int status, const auto& message) {
    return explain(request, status, message);
  };
  return service;
}

RouteFacts Router::facts_of(
    const HttpRequest& request,
    const RouteTable::Match& match) const {
  RouteFacts facts;
  facts.pattern = match.group ? match.group->pattern : kOther;
  facts.dialect = match.group ? match.group->routes.front().dialect
                              : dialect_of(request.path);
  if (!request.id.empty()) {
    facts.headers.emplace_back("x-request-id", request.id);
    if (facts.dialect == Dialect::anthropic) {
      facts.headers.emplace_back("request-id", request.id);
    }
  }
  append(facts.headers, access_.cors_headers(request));
  return facts;
}

Router::Decision Router::decide(const HttpRequest& request) const {
  RouteTable::Match match = table_.find(request.path);
  Decision decision;
  decision.facts = facts_of(request, match);
  try {
    check(request, decision.facts.pattern);
    decision.route = choose(request, match, decision);
    decision.argument = std::move(match.argument);
  } catch (const ApiError& error) {
    decision.answer = error_response(decision.facts.dialect, error);
    if (error.kind() == ApiErrorKind::method_not_allowed) {
      decision.answer->headers.emplace_back("allow", match.group->methods);
    }
  }
  return decision;
}

void Router::check(const HttpRequest& request, const std::string& pattern)
    const {
  access_.check_source(request);
  // Whoever watches over the server has no key; browsers do not send it with
  // the question whether they may.
  if (pattern != "/health" && pattern != "/ready" &&
      !access_.is_preflight(request)) {
    access_.check_key(request);
  }
}

// Null if the decision has an answer.
const Route* Router::choose(
    const HttpRequest& request,
    const RouteTable::Match& match,
    Decision& decision) const {
  const bool everything = request.path == "*";
  if (!match.group && !everything) {
    not_found(request);
  }
  const std::string methods =
      everything ? "GET, HEAD, POST, OPTIONS" : match.group->methods;
  if (access_.is_preflight(request)) {
    decision.answer = no_content(access_.preflight_headers(request, methods));
    return nullptr;
  }
  if (request.method == "OPTIONS") {
    decision.answer = no_content({{"allow", methods}});
    return nullptr;
  }
  const Route* route = match.group->find(request.method);
  if (!route) {
    throw ApiError(
        ApiErrorKind::method_not_allowed,
        fmt::format("{} takes {}", match.group->pattern, methods));
  }
  return route;
}

void Router::not_found(const HttpRequest& request) const {
  const std::string meant = table_.suggest(request.path);
  throw ApiError(
      ApiErrorKind::not_found,
      fmt::format(
          "there is no {}; {}",
          request.path.substr(0, kMostShown),
          meant.empty() ? "GET /v1/models is one of those that there are"
                        : fmt::format("did you mean {}?", meant)))
      .with_code("unknown_url");
}

void Router::handle(std::shared_ptr<HttpExchange> inner) {
  Decision decision = decide(inner->request());
  const Dialect dialect = decision.facts.dialect;
  const auto exchange = std::make_shared<RoutedExchange>(
      std::move(inner), std::move(decision.facts), context_.metrics);
  if (decision.answer) {
    exchange->send(std::move(*decision.answer));
    return;
  }
  if (!decision.route->slow) {
    call(*decision.route, exchange, decision.argument);
    return;
  }
  const bool taken = context_.workers.post(
      [this, route = decision.route, exchange, argument = decision.argument] {
        if (!exchange->gone()) {
          call(*route, exchange, argument);
        }
      });
  if (!taken) {
    exchange->send(error_response(
        dialect,
        ApiError(
            ApiErrorKind::unavailable,
            "too many requests are being read; try again")));
  }
}

void Router::call(
    const Route& route,
    const std::shared_ptr<HttpExchange>& exchange,
    const std::string& argument) const {
  try {
    route.handle(context_, exchange, argument);
  } catch (...) {
    const ApiError error = to_api_error(std::current_exception());
    if (error.kind() == ApiErrorKind::internal) {
      log::warn("[request] {}: {}", exchange->request().id, error.what());
    }
    exchange->send(error_response(route.dialect, error));
  }
  // The answer may take long, and what was asked is known.
  exchange->forget_body();
}

std::optional<HttpResponse> Router::refuse_early(const HttpRequest& request) {
  Decision decision = decide(request);
  if (decision.answer) {
    append(decision.answer->headers, decision.facts.headers);
    record_request(
        context_.metrics,
        request,
        decision.facts.pattern,
        decision.answer->status,
        decision.answer->body.size());
  }
  return std::move(decision.answer);
}

HttpResponse Router::explain(
    const HttpRequest& request,
    int status,
    const std::string& message) {
  const RouteFacts facts = facts_of(request, table_.find(request.path));
  HttpResponse response =
      error_response(facts.dialect, ApiError(kind_of(status), message));
  response.status = status;
  append(response.headers, facts.headers);
  record_request(
      context_.metrics, request, facts.pattern, status, response.body.size());
  return response;
}

} // namespace mlx_flash::server
