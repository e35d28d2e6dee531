#include "server/api/sign_of_life.h"

#include <doctest/doctest.h>

#include "server/test_loop.h"

using namespace mlx_flash::server;

namespace {

// A loop and a clock that go on together.
struct Waiting {
  ManualLoop loop;
  double now = 100;
  int said = 0;
  std::unique_ptr<SignOfLife> life;

  explicit Waiting(double seconds) {
    life = std::make_unique<SignOfLife>(loop, seconds, [this] { return now; });
    life->begin([this] { ++said; });
  }
  void pass(double seconds) {
    for (double left = seconds; left > 0; left -= 0.5) {
      now += 0.5;
      loop.advance(0.5);
    }
  }
};

} // namespace

TEST_CASE("sign of life: one for each time without a word") {
  Waiting waiting(5);
  waiting.pass(4.5);
  CHECK(waiting.said == 0);
  waiting.pass(0.5);
  CHECK(waiting.said == 1);
  waiting.pass(10);
  CHECK(waiting.said == 3);
}

TEST_CASE("sign of life: none within its time after something was written") {
  Waiting waiting(5);
  for (int i = 0; i < 10; ++i) {
    waiting.pass(3);
    waiting.life->wrote();
  }
  CHECK(waiting.said == 0);
  waiting.pass(4.5);
  CHECK(waiting.said == 0);
  waiting.pass(0.5);
  CHECK(waiting.said == 1);
}

TEST_CASE("sign of life: one timer at a time, however much is written") {
  Waiting waiting(5);
  for (int i = 0; i < 1000; ++i) {
    waiting.life->wrote();
  }
  CHECK(waiting.loop.timers() == 1);
}

TEST_CASE("sign of life: it ends when stopped or destroyed") {
  Waiting stopped(5);
  stopped.life->stop();
  CHECK(stopped.loop.timers() == 0); // which does not wait for its time
  stopped.pass(20);
  CHECK(stopped.said == 0);

  Waiting destroyed(5);
  destroyed.life.reset();
  CHECK(destroyed.loop.timers() == 0);
  destroyed.pass(20);
  CHECK(destroyed.said == 0);
}

TEST_CASE("sign of life: it may stop itself, or destroy its owner") {
  ManualLoop loop;
  int said = 0;
  double now = 0;
  auto life = std::make_unique<SignOfLife>(loop, 1, [&] { return now; });
  life->begin([&] {
    ++said;
    life.reset();
  });
  for (int i = 0; i < 5; ++i) {
    now += 1;
    loop.advance(1);
  }
  CHECK(said == 1);
}

TEST_CASE("sign of life: no time means none") {
  Waiting waiting(0);
  waiting.pass(20);
  CHECK(waiting.said == 0);
  CHECK(waiting.loop.timers() == 0);
}
