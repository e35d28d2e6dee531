#include "kernels/thread_pool.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "platform/cpu_facts.h"

namespace mlx_flash {
namespace {

// Long enough to bridge the serial steps between two regions, those between two
// tokens included (sampling from a large vocabulary takes 300 us); short enough
// that a pool that waits for a disk costs little.
constexpr auto kSpinTime = std::chrono::microseconds(500);

// The gate is one word, so that joining a region and checking that it is still
// open is one step:
//   bits 0..15   workers inside the region
//   bit  16      open: workers may join
//   bit  17      stop: workers return
//   bits 18..31  number of the region, wrapping
constexpr uint32_t kInside = 0xFFFF;
constexpr uint32_t kOpen = 1u << 16;
constexpr uint32_t kStop = 1u << 17;
constexpr uint32_t kOneRegion = 1u << 18;
constexpr uint32_t kRegion = ~(kOneRegion - 1);

// Checks `done` for a short while; false when the time is over.
template <typename Done>
bool spin_until(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) {
        return true;
      }
      hwy::Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

} // namespace

struct ThreadPool::State {
  // What the open region is. Written while the gate is closed and nobody is
  // inside; read by whoever has joined.
  Call call = nullptr;
  const void* body = nullptr;
  int64_t n = 0;
  int64_t grain = 1;
  int64_t threads = 1;

  alignas(64) std::atomic<uint32_t> gate{0};
  alignas(64) std::atomic<int64_t> taken{0};
  // 1 when the last worker has left a region that was closed over it.
  alignas(64) std::atomic<uint32_t> all_left{0};

  bool spins = false;
  std::vector<std::thread> workers;

  using Range = Next::Range;

  // Guided self-scheduling (Polychronopoulos and Kuck, 1987): as many ranges
  // as there are threads take half of what is left, and so on. Long runs of
  // neighbours first, so that memory is read in order; small ones last, so that
  // all threads end together, and a thread that is late, or shares its
  // processor with another program, leaves its part to the others.
  Range range(int64_t number) const {
    int64_t begin = 0;
    int64_t left = (n + grain - 1) / grain; // in grains
    for (;;) {
      const int64_t size = std::max<int64_t>(1, left / (2 * threads));
      if (number < threads || size == 1) {
        begin += number * size;
        return {
            std::min(begin * grain, n), std::min((begin + size) * grain, n)};
      }
      number -= threads;
      begin += threads * size;
      left -= threads * size;
    }
  }

  Range take() {
    return range(taken.fetch_add(1, std::memory_order_relaxed));
  }

  void take_all(int worker) {
    Range here = take();
    while (here.begin < n) {
      Next next(this, n);
      call(body, here.begin, here.end, worker, next);
      here = next.range();
    }
  }

  // Waits for a region other than `last`, or for the stop.
  uint32_t wait_for_region(uint32_t last) {
    uint32_t seen = 0;
    const auto arrived = [&] {
      seen = gate.load(std::memory_order_acquire);
      return (seen & kStop) || ((seen & kOpen) && (seen & kRegion) != last);
    };
    if (spins && spin_until(arrived)) {
      return seen;
    }
    while (!arrived()) {
      gate.wait(seen, std::memory_order_acquire);
    }
    return seen;
  }

  void work(int worker) {
    uint32_t last = 0;
    for (;;) {
      uint32_t seen = wait_for_region(last);
      if (seen & kStop) {
        return;
      }
      if (!gate.compare_exchange_strong(
              seen, seen + 1, std::memory_order_acq_rel)) {
        continue;
      }
      last = seen & kRegion;
      take_all(worker);
      const uint32_t before = gate.fetch_sub(1, std::memory_order_acq_rel);
      if (!(before & kOpen) && (before & kInside) == 1) {
        all_left.store(1, std::memory_order_release);
        all_left.notify_one();
      }
    }
  }

  void open() {
    taken.store(0, std::memory_order_relaxed);
    all_left.store(0, std::memory_order_relaxed);
    const uint32_t region =
        (gate.load(std::memory_order_relaxed) & kRegion) + kOneRegion;
    gate.store(region | kOpen, std::memory_order_seq_cst);
    gate.notify_all();
  }

  // Workers that have not joined by now are not waited for.
  void close() {
    const uint32_t before = gate.fetch_and(~kOpen, std::memory_order_acq_rel);
    if ((before & kInside) == 0) {
      return;
    }
    const auto done = [&] {
      return all_left.load(std::memory_order_acquire) == 1;
    };
    if (spins && spin_until(done)) {
      return;
    }
    while (!done()) {
      all_left.wait(0, std::memory_order_acquire);
    }
  }
};

const ThreadPool::Next::Range& ThreadPool::Next::range() {
  if (State* state = std::exchange(state_, nullptr)) {
    range_ = state->take();
  }
  return range_;
}

ThreadPool::ThreadPool(int threads)
    : threads_(threads), state_(std::make_unique<State>()) {
  MLX_FLASH_CHECK(threads >= 1 && threads < static_cast<int>(kInside));
  // With more threads than processors a spinning thread would hold the
  // processor that the thread it waits for needs.
  state_->threads = threads;
  state_->spins = threads <= usable_cpus();
  try {
    for (int worker = 1; worker < threads; ++worker) {
      state_->workers.emplace_back(
          [state = state_.get(), worker] { state->work(worker); });
    }
  } catch (const std::system_error& error) {
    stop();
    fail(
        ErrorCode::invalid_argument,
        "[threads] the system starts no more than {} of {} threads ({}); give "
        "a smaller --threads",
        state_->workers.size() + 1,
        threads,
        error.what());
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  state_->gate.fetch_or(kStop, std::memory_order_seq_cst);
  state_->gate.notify_all();
  for (auto& worker : state_->workers) {
    worker.join();
  }
}

void ThreadPool::run(
    int64_t n,
    int64_t grain,
    Call function,
    const void* body) {
  if (n <= 0) {
    return;
  }
  grain = std::max<int64_t>(grain, 1);
  if (threads_ == 1 || n <= grain) {
    Next none(nullptr, n);
    function(body, 0, n, 0, none);
    return;
  }
  State& state = *state_;
  state.call = function;
  state.body = body;
  state.n = n;
  state.grain = grain;
  state.open();
  state.take_all(0);
  state.close();
}

} // namespace mlx_flash
