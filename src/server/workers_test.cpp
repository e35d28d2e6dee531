#include "server/workers.h"

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>

#include "base/test_wait_for.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

// Holds up the tasks that wait for it until it is opened.
struct Gate {
  void open() {
    opened.set_value();
  }
  void pass() {
    future.wait();
  }

  std::promise<void> opened;
  const std::shared_future<void> future = opened.get_future().share();
};

} // namespace

TEST_CASE("workers: all that was taken is done") {
  WorkerPool workers(3, 1000);
  std::atomic<int> done = 0;
  for (int i = 0; i < 500; ++i) {
    CHECK(workers.post([&] { ++done; }));
  }
  CHECK(wait_for([&] { return done == 500; }));
}

TEST_CASE("workers: what is too much is refused and not taken") {
  Gate gate;
  WorkerPool workers(1, 2);
  std::atomic<bool> begun = false;
  std::atomic<int> done = 0;
  CHECK(workers.post([&] {
    begun = true;
    gate.pass();
  }));
  CHECK(wait_for([&] { return begun.load(); }));
  const auto task = [&] { ++done; };
  CHECK(workers.post(task));
  CHECK(workers.post(task));
  CHECK(!workers.post(task));
  gate.open();
  CHECK(wait_for([&] { return done == 2; }));
  CHECK(workers.post(task));
  CHECK(wait_for([&] { return done == 3; }));
}

TEST_CASE("workers: a task that throws does not end its thread") {
  WorkerPool workers(1, 10);
  std::atomic<bool> done = false;
  CHECK(workers.post([] { throw std::runtime_error("on purpose"); }));
  CHECK(workers.post([&] { done = true; }));
  CHECK(wait_for([&] { return done.load(); }));
}

TEST_CASE("workers: stopping waits for what has begun and drops what waits") {
  Gate gate;
  WorkerPool workers(1, 10);
  std::atomic<bool> begun = false;
  std::atomic<bool> ended = false;
  const auto held = std::make_shared<int>(0);
  CHECK(workers.post([&] {
    begun = true;
    gate.pass();
    ended = true;
  }));
  CHECK(workers.post([held] { ++*held; }));
  CHECK(wait_for([&] { return begun.load(); }));
  std::thread opener([&] {
    // What waits is refused as soon as stop() has begun.
    while (workers.post([] {})) {
      std::this_thread::yield();
    }
    gate.open();
  });
  workers.stop();
  opener.join();
  CHECK(ended);
  CHECK(*held == 0);
  CHECK(held.use_count() == 1);
}
