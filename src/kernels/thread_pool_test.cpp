#include "kernels/thread_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "base/test_wait_for.h"

namespace mlx_flash {
namespace {

double process_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) +
      static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST_CASE("thread pool: ranges cover everything once, in multiples of grain") {
  const uint64_t seed = 1;
  CAPTURE(seed);
  Rng rng(seed);
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int round = 0; round < 300; ++round) {
      const auto n = static_cast<int64_t>(rng.below(500));
      const auto grain = static_cast<int64_t>(rng.below(40));
      const int64_t unit = grain == 0 ? 1 : grain;
      // Plain integers: writing one twice is also a race that TSan sees.
      std::vector<int> visits(static_cast<size_t>(n));
      std::atomic<int> bad{0};
      pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
        bad += begin < 0 || begin >= end || end > n;
        bad += begin % unit != 0 || (end % unit != 0 && end != n);
        bad += worker < 0 || worker >= threads;
        for (int64_t i = begin; i < end; ++i) {
          ++visits[static_cast<size_t>(i)];
        }
      });
      CHECK(bad == 0);
      CHECK(std::ranges::all_of(visits, [](int v) { return v == 1; }));
    }
  }
}

TEST_CASE("thread pool: a body can know where its worker goes on") {
  constexpr int64_t kNotAsked = -1;
  const uint64_t seed = 2;
  CAPTURE(seed);
  Rng rng(seed);
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 300; ++round) {
      const auto n = static_cast<int64_t>(rng.below(200)) + 1;
      const auto grain = static_cast<int64_t>(rng.below(5)) + 1;
      const uint64_t asked = rng.next(); // who asks: a bit for each range
      std::vector<int> visits(static_cast<size_t>(n));
      std::vector<int64_t> told(static_cast<size_t>(threads), kNotAsked);
      std::atomic<int> bad{0};
      pool.parallel_for(
          n,
          grain,
          [&](int64_t begin, int64_t end, int worker, ThreadPool::Next& next) {
            int64_t& expected = told[static_cast<size_t>(worker)];
            bad += expected != kNotAsked && expected != begin;
            expected = (asked >> begin % 64) & 1 ? next() : kNotAsked;
            bad += expected != kNotAsked && expected != next();
            for (int64_t i = begin; i < end; ++i) {
              ++visits[static_cast<size_t>(i)];
            }
          });
      CHECK(bad == 0);
      CHECK(std::ranges::all_of(visits, [](int v) { return v == 1; }));
      CHECK(std::ranges::all_of(
          told, [&](int64_t t) { return t == kNotAsked || t == n; }));
    }
  }
}

TEST_CASE("thread pool: what is no longer than the grain runs on the caller") {
  ThreadPool pool(3);
  const auto caller = std::this_thread::get_id();
  int calls = 0;
  pool.parallel_for(8, 8, [&](int64_t begin, int64_t end, int worker) {
    ++calls;
    CHECK(std::this_thread::get_id() == caller);
    CHECK(begin == 0);
    CHECK(end == 8);
    CHECK(worker == 0);
  });
  CHECK(calls == 1);
  pool.parallel_for(0, 8, [&](int64_t, int64_t, int) { ++calls; });
  CHECK(calls == 1);
}

TEST_CASE("thread pool: long ranges come first") {
  // Memory is read in order for as long as that leaves nobody without work.
  ThreadPool pool(3);
  std::atomic<int64_t> longest{0};
  pool.parallel_for(600, 5, [&](int64_t begin, int64_t end, int) {
    for (int64_t most = longest; end - begin > most;) {
      longest.compare_exchange_weak(most, end - begin);
    }
  });
  CHECK(longest == 600 / (2 * 3));
}

TEST_CASE("thread pool: a worker number is used by one thread at a time") {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  std::atomic<int> inside[kThreads] = {};
  std::atomic<int> clashes{0};
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(64, 1, [&](int64_t, int64_t, int worker) {
      clashes += inside[worker].fetch_add(1) != 0;
      std::this_thread::yield();
      inside[worker].fetch_sub(1);
    });
  }
  CHECK(clashes == 0);
}

TEST_CASE("thread pool: others do the chunks of a worker that is late") {
  // Worker 1 is held in its first chunk until all others are done, which is
  // half of a share dealt out beforehand at the most.
  constexpr int64_t kN = 60;
  constexpr int64_t kHeld = kN / (2 * 3);
  ThreadPool pool(3);
  for (int round = 0; round < 10; ++round) {
    std::atomic<int64_t> done{0};
    std::atomic<bool> held{false};
    std::atomic<bool> released{true};
    pool.parallel_for(kN, 1, [&](int64_t begin, int64_t end, int worker) {
      if (worker == 1 && !held.exchange(true)) {
        released = wait_for([&] { return done.load() >= kN - kHeld; });
      } else {
        wait_for([&] { return held.load(); });
      }
      done += end - begin;
    });
    CHECK(held);
    CHECK(released);
    CHECK(done == kN);
  }
}

TEST_CASE("thread pool: all that a region wrote is seen after it") {
  ThreadPool pool(3);
  std::vector<int64_t> values(1000, 0);
  for (int64_t round = 1; round <= 2000; ++round) {
    pool.parallel_for(1000, 10, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        ++values[static_cast<size_t>(i)];
      }
    });
    if (values[0] != round || values[999] != round || values[500] != round) {
      FAIL("round " << round << " is not complete");
    }
  }
}

TEST_CASE("thread pool: regions wake threads that sleep") {
  ThreadPool pool(4);
  for (int round = 0; round < 30; ++round) {
    // Long enough for every worker to leave its spin.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        sum += i;
      }
    });
    CHECK(sum == 4950);
  }
}

TEST_CASE("thread pool: idle, it uses no processor time") {
  // Two threads, which spin between regions where there are two processors.
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  pool.parallel_for(
      1000, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
  // The bounded spin after the region is over by then.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = process_cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double used = process_cpu_seconds() - before;
  CHECK(used < 0.03);
}

TEST_CASE("thread pool: regions are told apart when their numbers wrap") {
  constexpr int kRegions = 40'000; // numbers have 14 bits
  ThreadPool pool(2);
  for (int region = 0; region < kRegions; ++region) {
    std::atomic<int> done = 0;
    pool.parallel_for(4, 1, [&](int64_t begin, int64_t end, int) {
      done += static_cast<int>(end - begin);
    });
    REQUIRE(done == 4);
  }
}

TEST_CASE("thread pool: many more threads than processors still finish") {
  ThreadPool pool(16);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int64_t> count{0};
    pool.parallel_for(
        64, 1, [&](int64_t begin, int64_t end, int) { count += end - begin; });
    CHECK(count == 64);
  }
}

TEST_CASE("thread pool: pools come and go, used or not") {
  for (int round = 0; round < 50; ++round) {
    auto pool = std::make_unique<ThreadPool>(1 + round % 5);
    if (round % 2 == 0) {
      std::atomic<int64_t> count{0};
      pool->parallel_for(10, 1, [&](int64_t begin, int64_t end, int) {
        count += end - begin;
      });
      CHECK(count == 10);
    }
  }
}

} // namespace
} // namespace mlx_flash
