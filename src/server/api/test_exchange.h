// For tests: a request whose answer is kept, and the events of a stream that
// was written to it. A loop for tests is in server/test_loop.h.
//
// Thread rule: one thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "server/http/http.h"

namespace mlx_flash::server {

class TestExchange : public HttpExchange {
 public:
  explicit TestExchange(std::string body = {}, std::string id = "test-1") {
    request_.id = std::move(id);
    request_.method = "POST";
    request_.body = std::move(body);
  }

  const HttpRequest& request() const override {
    return request_;
  }
  bool hold(uint64_t bytes) override {
    if (bytes > room) {
      return false;
    }
    held = bytes;
    return true;
  }
  void send(HttpResponse response) override {
    protocol_errors += begun || ended;
    begun = ended = true;
    head = std::move(response);
    written = head.body;
  }
  void begin(HttpResponse response) override {
    protocol_errors += begun || ended;
    begun = true;
    head = std::move(response);
    written = head.body;
    parts.push_back(head.body);
  }
  void write(std::string part) override {
    protocol_errors += !begun || ended;
    written += part;
    parts.push_back(std::move(part));
  }
  void end() override {
    protocol_errors += !begun || ended;
    ended = true;
  }
  void on_disconnect(std::function<void()> callback) override {
    disconnect = std::move(callback);
  }

  std::string header(const std::string& name) const {
    for (const auto& [key, value] : head.headers) {
      if (key == name) {
        return value;
      }
    }
    return {};
  }

  bool begun = false; // or sent
  bool ended = false; // or sent
  HttpResponse head; // as it was sent or begun
  std::string written; // all of its body
  std::vector<std::string> parts; // of what was begun, as they were written
  uint64_t room = UINT64_MAX; // for what is gathered
  uint64_t held = 0; // of it
  int protocol_errors = 0; // calls in an order that is not allowed
  std::function<void()> disconnect;

 private:
  HttpRequest request_;
};

// An event of a stream. Comments have nothing but `comment`.
struct TestEvent {
  std::string name{};
  std::string data{};
  std::string comment{};
};

inline std::vector<TestEvent> read_events(const std::string& stream) {
  std::vector<TestEvent> events;
  TestEvent event;
  size_t begin = 0;
  bool any = false;
  for (size_t end; (end = stream.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string line = stream.substr(begin, end - begin);
    if (line.empty()) {
      if (std::exchange(any, false)) {
        events.push_back(std::exchange(event, {}));
      }
      continue;
    }
    any = true;
    if (line.rfind("data: ", 0) == 0) {
      event.data += (event.data.empty() ? "" : "\n") + line.substr(6);
    } else if (line.rfind("event: ", 0) == 0) {
      event.name = line.substr(7);
    } else {
      event.comment = line;
    }
  }
  return events;
}

} // namespace mlx_flash::server
