#include "cli/deadline.h"

#include <doctest/doctest.h>

#include <atomic>

#include "base/test_wait_for.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

constexpr double kNever = 100'000; // seconds

struct Fixture {
  std::atomic<int> expired = 0;
  std::optional<Deadline> deadline{[this] { ++expired; }};

  bool has_expired() {
    return wait_for([&] { return expired == 1; });
  }
};

} // namespace

TEST_CASE("deadline: when it has come the program is ended, once") {
  Fixture f;
  f.deadline->set(0);
  CHECK(f.has_expired());
  f.deadline->set(0);
  f.deadline.reset();
  CHECK(f.expired == 1);
}

TEST_CASE("deadline: what ends in time is not ended") {
  Fixture f;
  SUBCASE("without one") {}
  SUBCASE("before it") {
    f.deadline->set(kNever);
  }
  f.deadline.reset();
  CHECK(f.expired == 0);
}

TEST_CASE("deadline: the earliest one counts") {
  Fixture f;
  SUBCASE("though it is set later") {
    f.deadline->set(kNever);
    f.deadline->set(0);
  }
  SUBCASE("though a later one is set behind it") {
    f.deadline->set(0.05);
    f.deadline->set(kNever);
  }
  CHECK(f.has_expired());
}
