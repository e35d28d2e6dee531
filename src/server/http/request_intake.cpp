#include "server/http/request_intake.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlx_flash::server {

class RequestIntake::BodyShare {
 public:
  explicit BodyShare(std::shared_ptr<std::atomic<uint64_t>> all)
      : all_(std::move(all)) {}
  ~BodyShare() {
    *all_ -= own_;
  }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

  // Returns what all have.
  uint64_t grow_to(uint64_t bytes) {
    const uint64_t more = bytes - std::exchange(own_, bytes);
    return *all_ += more;
  }

 private:
  const std::shared_ptr<std::atomic<uint64_t>> all_;
  uint64_t own_ = 0;
};

RequestIntake::RequestIntake(
    const ServerLimits& limits,
    std::shared_ptr<std::atomic<uint64_t>> body_bytes,
    double idle_deadline)
    : limits_(limits),
      reader_(limits.header_bytes, limits.body_bytes),
      share_(std::make_shared<BodyShare>(std::move(body_bytes))),
      deadline_(idle_deadline) {}

RequestIntake::Step RequestIntake::fail(int status, std::string message) {
  failure_ = {status, std::move(message)};
  return Step::failed;
}

RequestIntake::Step RequestIntake::step(std::string& input, double now) {
  using State = RequestReader::State;
  const State state = reader_.read(input);
  if (phase_ == Phase::idle && (state != State::headers || !input.empty())) {
    phase_ = Phase::headers;
    deadline_ = now + limits_.header_seconds;
    reader_.request().received = now;
  }
  if (state == State::failed) {
    failure_ = reader_.failure();
    return Step::failed;
  }
  // A single one may always be as large as a body may be.
  const uint64_t most = std::max(limits_.body_bytes, limits_.all_body_bytes);
  if (share_->grow_to(reader_.request().body.size()) > most) {
    return fail(503, "too many large requests at once; try again");
  }
  if (state == State::done) {
    return Step::done;
  }
  if (phase_ == Phase::headers && state == State::body) {
    phase_ = Phase::body;
    deadline_ = now + limits_.body_seconds;
    return Step::headers;
  }
  return now < deadline_ ? Step::wait : give_up();
}

RequestIntake::Step RequestIntake::give_up() {
  if (phase_ == Phase::idle) {
    return fail(0, "");
  }
  const bool headers = phase_ == Phase::headers;
  return fail(
      408,
      fmt::format(
          "the {} not there within {} s",
          headers ? "headers were" : "body was",
          headers ? limits_.header_seconds : limits_.body_seconds));
}

} // namespace mlx_flash::server
