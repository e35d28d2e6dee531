// An exchange on its way through a route: adds the headers that all answers
// have, counts and logs the request when it has ended, and makes an error in
// the dialect's form when its handler ends without an answer.
//
// Thread rule: as HttpExchange.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "server/api/routes.h"
#include "server/http/http.h"
#include "server/metrics.h"

namespace mlx_flash::server {

// What is known of a request before it is answered.
struct RouteFacts {
  std::string pattern; // of the route; "other" without
  Dialect dialect = Dialect::openai;
  Headers headers; // of the answer
};

// Counts the request and writes its line of the log, which routes that are
// polled have at level debug alone. `route` is the pattern.
void record_request(
    Metrics& metrics,
    const HttpRequest& request,
    const std::string& route,
    int status,
    uint64_t bytes);

class RoutedExchange : public HttpExchange {
 public:
  RoutedExchange(
      std::shared_ptr<HttpExchange> inner,
      RouteFacts facts,
      Metrics& metrics);
  ~RoutedExchange() override;
  RoutedExchange(const RoutedExchange&) = delete;
  RoutedExchange& operator=(const RoutedExchange&) = delete;

  const HttpRequest& request() const override {
    return inner_->request();
  }
  void forget_body() override {
    inner_->forget_body();
  }
  // Where there is no room for it, it is an error instead.
  void send(HttpResponse response) override;
  bool hold(uint64_t bytes) override {
    return inner_->hold(bytes);
  }
  void begin(HttpResponse response) override;
  void write(std::string part) override;
  void end() override;
  // The client is: nobody needs an answer any more.
  bool gone() const {
    return *gone_;
  }
  void on_disconnect(std::function<void()> callback) override {
    inner_->on_disconnect(std::move(callback));
  }

 private:
  bool start(HttpResponse& response);
  void finish(int status);

  const std::shared_ptr<HttpExchange> inner_;
  const RouteFacts facts_;
  Metrics& metrics_;
  // Outlives it in the callback that sets it.
  const std::shared_ptr<std::atomic<bool>> gone_ =
      std::make_shared<std::atomic<bool>>(false);
  std::atomic<bool> begun_ = false;
  std::atomic<bool> finished_ = false;
  std::atomic<int> status_ = 0;
  std::atomic<uint64_t> bytes_ = 0;
};

} // namespace mlx_flash::server
