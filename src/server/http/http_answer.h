// The answer to one request: what handlers give, as bytes that wait to be sent
// by the connection. It knows no socket (connection.cpp) and frames what it is
// given as the client's version of HTTP needs it.
//
// Thread rule: the first half from any thread, the second on the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/http/http.h"
#include "server/http/unsent_bytes.h"
#include "server/loop.h"

namespace mlx_flash::server {

class HttpAnswer : public std::enable_shared_from_this<HttpAnswer> {
 public:
  struct Form {
    bool http_1_1 = true;
    bool keep_alive = true; // the connection goes on after this answer
    bool head_only = false; // the request is a HEAD
  };

  // `on_output` is posted to the loop when there is something to take() or to
  // ask for.
  HttpAnswer(
      Loop& loop,
      Form form,
      std::shared_ptr<UnsentBytes> unsent,
      Task on_output);
  ~HttpAnswer();
  HttpAnswer(const HttpAnswer&) = delete;
  HttpAnswer& operator=(const HttpAnswer&) = delete;

  // As HttpExchange has them. After the end, and once the client is gone, they
  // do nothing.
  bool has_room(const HttpResponse& response) const;
  bool hold(uint64_t bytes);
  void send(HttpResponse response);
  void begin(HttpResponse response);
  void write(std::string_view part);
  void end();
  void on_disconnect(std::function<void()> callback);
  // Nobody is left who could answer: a 500, or the end of a stream in the
  // middle, which a client can tell from a good end.
  void abandon();

  // What is there to be sent. It counts as unsent until sent() was told.
  std::string take();
  void sent(uint64_t bytes);
  // It was ended, and all of it was taken.
  bool complete() const;
  // Too much waits for a client that does not read.
  bool overflowed() const;
  // The connection can go on after this answer, and its head has said so.
  bool keep_alive() const;
  // From here on it cannot.
  void forbid_keep_alive();
  // The client is gone, or will be: posts what on_disconnect() was given.
  void disconnect();

 private:
  enum class Step { waiting, begun, ended };

  void start(const HttpResponse& response, bool whole);
  void finish(bool whole);
  void overflow();
  void tell();
  void count();
  bool has_room_for(const HttpResponse& response) const;
  bool gone() const {
    return disconnected_ || overflowed_;
  }

  Loop& loop_;
  const std::shared_ptr<UnsentBytes> unsent_;
  const Task on_output_;

  mutable std::mutex mutex_;
  Form form_;
  Step step_ = Step::waiting;
  bool chunked_ = false; // the body that was begun
  bool bodiless_ = false; // its bytes must not be sent
  std::string pending_; // to be taken
  uint64_t taken_ = 0; // and not yet sent
  uint64_t held_ = 0; // that are gathered
  uint64_t counted_ = 0; // of all three, in `unsent_`
  bool told_ = false; // and not yet taken
  bool overflowed_ = false;
  bool disconnected_ = false;
  std::vector<std::function<void()>> callbacks_;
};

// What handlers hold. The answer is abandoned when it goes.
class Exchange : public HttpExchange {
 public:
  // `kept` lives as long as the request.
  Exchange(
      std::shared_ptr<HttpAnswer> answer,
      HttpRequest request,
      std::shared_ptr<void> kept)
      : answer_(std::move(answer)),
        kept_(std::move(kept)),
        request_(std::move(request)) {}
  ~Exchange() override {
    answer_->abandon();
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const HttpRequest& request() const override {
    return request_;
  }
  void forget_body() override {
    std::string().swap(request_.body);
  }
  bool has_room(const HttpResponse& response) const override {
    return answer_->has_room(response);
  }
  bool hold(uint64_t bytes) override {
    return answer_->hold(bytes);
  }
  void send(HttpResponse response) override {
    answer_->send(std::move(response));
  }
  void begin(HttpResponse response) override {
    answer_->begin(std::move(response));
  }
  void write(std::string part) override {
    answer_->write(part);
  }
  void end() override {
    answer_->end();
  }
  void on_disconnect(std::function<void()> callback) override {
    answer_->on_disconnect(std::move(callback));
  }

 private:
  const std::shared_ptr<HttpAnswer> answer_;
  const std::shared_ptr<void> kept_;
  HttpRequest request_;
};

} // namespace mlx_flash::server
