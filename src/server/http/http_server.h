// The server's sockets: takes connections, reads requests within the limits,
// gives them to a handler and sends what it answers; and the loop on whose
// thread all of it runs. What a request means is not decided here (router.h).
//
// Thread rule: all methods from any thread, but stop() and the destructor not
// from the loop. Handlers are called on the loop. Exchanges must not outlive
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/http/http.h"
#include "server/loop.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// What is made of requests. Called on the loop.
struct HttpService {
  HttpHandler handle;
  // Asked before the body of a request is read: an answer spares reading it.
  std::function<std::optional<HttpResponse>(const HttpRequest&)> refuse_early =
      [](const HttpRequest&) { return std::nullopt; };
  // The answer to what is no good request, of which only a part may be known.
  std::function<
      HttpResponse(const HttpRequest&, int status, const std::string& message)>
      explain = plain_explanation;

  static HttpResponse plain_explanation(
      const HttpRequest& request,
      int status,
      const std::string& message);
};

class HttpServer : public Loop {
 public:
  // The loop runs from here on. Of `limits` it keeps those of connections and
  // their requests.
  explicit HttpServer(const ServerLimits& limits);
  ~HttpServer() override; // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Tasks are dropped once it has stopped.
  void post(Task task) override;
  Task post_after(double seconds, Task task) override;

  // Takes connections at all addresses that `host` has. Once. Throws Error
  // (invalid_argument) for a host that is not known, and Error(io) when the
  // port cannot be had.
  void listen(const std::string& host, uint16_t port, HttpService service);
  uint16_t port() const; // 0 before
  uint64_t connections() const;

  // Takes no more connections, ends those without a request in progress, and
  // after so many seconds the others too. `closed` is called on the loop when
  // there are none left.
  void drain(double seconds, Task closed);
  // Ends all connections at once, and the loop with all that it was given.
  void stop();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

} // namespace mlx_flash::server
