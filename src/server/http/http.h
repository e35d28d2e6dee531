// A request and its answer, as handlers see them. Sockets, HTTP and its limits
// are in http_server.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlx_flash::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string id; // ours, unique in this process: for logs and answers
  std::string method; // "GET"
  std::string path; // "/v1/models/x": percent-decoded, without the query
  std::string query; // what follows '?', as it came
  Headers headers; // names in lower case
  std::string body;
  std::string peer; // address and port
  double received = 0; // now_seconds() when its first byte was here

  // The first of that name, which is in lower case; empty without.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  Headers headers{};
  std::string body;
  // Its memory has a budget of its own; otherwise it may be too large to wait
  // for the client (HttpExchange::has_room()).
  bool any_size = false;
};

// One request on its way to its answer: sent whole, or begun, written bit by
// bit and ended. Destroyed without an answer it sends a 500.
//
// Thread rule: any thread; parts that one thread writes keep their order.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;
  // From here on nobody reads the request's body.
  virtual void forget_body() {}

  // Whether a whole answer may wait for the client to read it. One that is sent
  // nevertheless cuts the client off.
  virtual bool has_room(const HttpResponse& response) const {
    (void)response;
    return true;
  }
  // So many bytes are gathered for the answer, in all: they count as bytes that
  // wait for the client until it is sent or ended. False if there is no room
  // for them; then nothing changes.
  virtual bool hold(uint64_t bytes) {
    (void)bytes;
    return true;
  }
  virtual void send(HttpResponse response) = 0;

  // `response.body` is the first part. What is written to a client that is
  // gone is dropped.
  virtual void begin(HttpResponse response) = 0;
  virtual void write(std::string part) = 0;
  virtual void end() = 0;

  // Called once, on the loop (loop.h), if the client goes away before the end,
  // or reads so slowly that too much piles up. At once if it is gone already.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;

} // namespace mlx_flash::server
