#include "server/api/start_answer.h"

#include <doctest/doctest.h>

using namespace mlx_flash::server;

namespace {

struct Counted : Generation {
  explicit Counted(std::function<void()> on_cancel = {})
      : hook(std::move(on_cancel)) {}
  void cancel() override {
    ++cancelled;
    if (hook) {
      hook();
    }
  }
  int cancelled = 0;
  std::function<void()> hook;
};

} // namespace

TEST_CASE("running jobs: all are cancelled, each once") {
  RunningJobs jobs;
  const auto a = std::make_shared<Counted>();
  const auto b = std::make_shared<Counted>();
  jobs.add(a);
  jobs.add(b);
  CHECK(a->cancelled == 0);
  jobs.cancel();
  jobs.cancel();
  CHECK(a->cancelled == 1);
  CHECK(b->cancelled == 1);
}

TEST_CASE("running jobs: what comes too late is cancelled, too") {
  RunningJobs jobs;
  jobs.cancel();
  const auto late = std::make_shared<Counted>();
  jobs.add(late);
  CHECK(late->cancelled == 1);
}

TEST_CASE("running jobs: they may call back while they are cancelled") {
  RunningJobs jobs;
  const auto job = std::make_shared<Counted>([&] { jobs.cancel(); });
  jobs.add(job);
  jobs.cancel();
  CHECK(job->cancelled == 1);
}
