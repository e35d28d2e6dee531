// One request on its way in: what RequestReader reads, with the limits of time
// and of the memory that all requests have together. It is told the time, and
// knows no sockets (connection.cpp).
//
// Thread rule: one thread; only `body_bytes` is shared with others.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "server/http/request_reader.h"
#include "server/server_options.h"

namespace mlx_flash::server {

class RequestIntake {
 public:
  // `wait`: for more bytes, until deadline(). `headers`: they are there, and
  // the body is not; once. After `failed` nothing more can be read.
  enum class Step { wait, headers, done, failed };

  // `body_bytes` are those of all requests in memory. Times are those of
  // now_seconds(); until `idle_deadline` the first byte has to come.
  RequestIntake(
      const ServerLimits& limits,
      std::shared_ptr<std::atomic<uint64_t>> body_bytes,
      double idle_deadline);

  // Takes what it can use from the beginning of `input`.
  Step step(std::string& input, double now);

  double deadline() const {
    return deadline_;
  }
  bool begun() const { // its first byte has come
    return phase_ != Phase::idle;
  }
  // Once it has failed. Without a message nothing was asked, and nothing is to
  // be answered.
  const ReadFailure& failure() const {
    return failure_;
  }
  RequestReader& reader() {
    return reader_;
  }
  // Who holds it holds the request's share of `body_bytes`.
  std::shared_ptr<void> share() const {
    return share_;
  }

 private:
  enum class Phase { idle, headers, body };
  class BodyShare;

  Step fail(int status, std::string message);
  Step give_up();

  const ServerLimits& limits_;
  RequestReader reader_;
  const std::shared_ptr<BodyShare> share_;
  Phase phase_ = Phase::idle;
  double deadline_; // of the phase
  ReadFailure failure_{};
};

} // namespace mlx_flash::server
