#include "server/http/request_intake.h"

#include <doctest/doctest.h>

#include <optional>

using namespace mlx_flash::server;

namespace {

using Step = RequestIntake::Step;

constexpr double kStart = 1000;
constexpr double kIdle = 75;

struct Fixture {
  Fixture() {
    limits.header_seconds = 10;
    limits.body_seconds = 60;
    limits.body_bytes = 100;
    limits.all_body_bytes = 250;
    intake.emplace(limits, all, kStart + kIdle);
  }

  Step step(const std::string& bytes, double seconds) {
    input += bytes;
    return intake->step(input, kStart + seconds);
  }

  ServerLimits limits;
  std::shared_ptr<std::atomic<uint64_t>> all =
      std::make_shared<std::atomic<uint64_t>>(0);
  std::optional<RequestIntake> intake;
  std::string input;
};

constexpr const char* kHead =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

} // namespace

TEST_CASE("request intake: headers are told before the body is there") {
  Fixture f;
  CHECK(f.step("", 1) == Step::wait);
  CHECK(!f.intake->begun());
  CHECK(f.step(kHead, 2) == Step::headers);
  CHECK(f.step("hel", 3) == Step::wait);
  CHECK(f.step("lo", 4) == Step::done);
  CHECK(f.intake->reader().request().body == "hello");
  CHECK(f.intake->reader().request().received == kStart + 2);
}

TEST_CASE("request intake: with its body at hand a request is done at once") {
  Fixture f;
  CHECK(f.step(std::string(kHead) + "hello", 1) == Step::done);
}

TEST_CASE("request intake: without a first byte there is nothing to say") {
  Fixture f;
  CHECK(f.step("", kIdle - 1) == Step::wait);
  CHECK(f.step("", kIdle) == Step::failed);
  CHECK(f.intake->failure().message.empty());
}

TEST_CASE("request intake: the time for headers is that for all of them") {
  Fixture f;
  CHECK(f.step("GET", 70) == Step::wait);
  CHECK(f.intake->deadline() == kStart + 80);
  CHECK(f.step(" / ", 79) == Step::wait);
  CHECK(f.intake->deadline() == kStart + 80);
  CHECK(f.step("HTTP", 80) == Step::failed);
  CHECK(f.intake->failure().status == 408);
}

TEST_CASE("request intake: the time for the body begins behind the headers") {
  Fixture f;
  CHECK(f.step(kHead, 9) == Step::headers);
  CHECK(f.intake->deadline() == kStart + 69);
  CHECK(f.step("hell", 68) == Step::wait);
  CHECK(f.step("", 69) == Step::failed);
  CHECK(f.intake->failure().status == 408);
}

TEST_CASE("request intake: what is there in time is taken in any case") {
  Fixture f;
  CHECK(f.step(kHead, 1) == Step::headers);
  CHECK(f.step("hello", 1000) == Step::done);
}

TEST_CASE("request intake: bodies count until nobody holds their share") {
  Fixture f;
  CHECK(f.step(kHead, 1) == Step::headers);
  CHECK(f.step("hell", 1) == Step::wait);
  CHECK(*f.all == 4);
  CHECK(f.step("o", 1) == Step::done);
  auto share = f.intake->share();
  f.intake.reset();
  CHECK(*f.all == 5);
  share.reset();
  CHECK(*f.all == 0);
}

TEST_CASE("request intake: with too much in memory a body is a 503") {
  Fixture f;
  *f.all = 250 - 4;
  CHECK(f.step(kHead, 1) == Step::headers);
  CHECK(f.step("hell", 1) == Step::wait);
  CHECK(f.step("o", 1) == Step::failed);
  CHECK(f.intake->failure().status == 503);
  f.intake.reset();
  CHECK(*f.all == 250 - 4);
}

TEST_CASE("request intake: one body may always have the size of one") {
  Fixture f;
  f.limits.all_body_bytes = 1;
  CHECK(f.step(std::string(kHead) + "hello", 1) == Step::done);
}
