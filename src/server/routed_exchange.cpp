#include "server/routed_exchange.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace mlx_flash::server {

namespace {

// As others log it: the client has gone before the end.
constexpr int kClientGone = 499;

// A client may write anything there.
const char* method_of(const HttpRequest& request) {
  for (const char* known :
       {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
    if (request.method == known) {
      return known;
    }
  }
  return "?";
}

// By whoever watches over the server, all the time.
bool is_polled(const std::string& route) {
  return route == "/health" || route == "/ready" || route == "/metrics";
}

} // namespace

void record_request(
    Metrics& metrics,
    const HttpRequest& request,
    const std::string& route,
    int status,
    uint64_t bytes) {
  metrics.count_request(route, status);
  log::logger().log(
      is_polled(route) ? spdlog::level::debug : spdlog::level::info,
      "[request] {} {} {} {} bytes {:.3f} s {}",
      method_of(request),
      route,
      status,
      bytes,
      request.received > 0 ? now_seconds() - request.received : 0.0,
      request.id.empty() ? "-" : request.id);
}

RoutedExchange::RoutedExchange(
    std::shared_ptr<HttpExchange> inner,
    RouteFacts facts,
    Metrics& metrics)
    : inner_(std::move(inner)), facts_(std::move(facts)), metrics_(metrics) {
  inner_->on_disconnect([gone = gone_] { *gone = true; });
}

RoutedExchange::~RoutedExchange() {
  if (finished_) {
    return;
  }
  if (begun_) {
    finish(*gone_ ? kClientGone : status_.load());
    return;
  }
  if (*gone_) {
    finish(kClientGone);
    return;
  }
  send(error_response(
      facts_.dialect,
      ApiError(
          ApiErrorKind::internal, "the server has made no answer to this")));
}

// False if it has an answer already.
bool RoutedExchange::start(HttpResponse& response) {
  if (begun_.exchange(true)) {
    return false;
  }
  status_ = response.status;
  bytes_ = response.body.size();
  response.headers.insert(
      response.headers.end(), facts_.headers.begin(), facts_.headers.end());
  return true;
}

void RoutedExchange::finish(int status) {
  if (!finished_.exchange(true)) {
    record_request(metrics_, request(), facts_.pattern, status, bytes_);
  }
}

void RoutedExchange::send(HttpResponse response) {
  if (!inner_->has_room(response)) {
    response = error_response(
        facts_.dialect,
        ApiError(
            ApiErrorKind::unavailable,
            "too much waits for clients to read it; try again later"));
  }
  if (start(response)) {
    inner_->send(std::move(response));
    finish(status_);
  }
}

void RoutedExchange::begin(HttpResponse response) {
  if (start(response)) {
    inner_->begin(std::move(response));
  }
}

void RoutedExchange::write(std::string part) {
  bytes_ += part.size();
  inner_->write(std::move(part));
}

void RoutedExchange::end() {
  inner_->end();
  finish(status_);
}

} // namespace mlx_flash::server
