// A fixed number of workers that run the kernels' parallel regions. Workers
// spin briefly between regions and then sleep: an idle pool uses no CPU.
//
// Thread rule: one thread at a time starts regions; regions do not nest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace mlx_flash {

class ThreadPool {
 public:
  // `threads` in all, the calling thread included; at least 1. Throws
  // Error(invalid_argument) where the system does not start so many.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const {
    return threads_;
  }

  // Where the calling worker's next range begins, or n if there is none: for a
  // body that fetches ahead of what it computes. Asking for it takes the range,
  // and others can no longer have it, so ask near the end.
  class Next;

  // Calls body(begin, end, worker) or body(begin, end, worker, next) so that
  // the ranges cover [0, n) once. Ranges are multiples of `grain` (the last may
  // be shorter). `worker` is below threads(). Which worker runs which range is
  // not defined, so results must not depend on it. Returns when all are done.
  // `body` must not throw.
  template <typename Body>
  void parallel_for(int64_t n, int64_t grain, const Body& body) {
    run(n, grain, &call<Body>, &body);
  }

 private:
  void stop();

  using Call = void (*)(
      const void* body,
      int64_t begin,
      int64_t end,
      int worker,
      Next& next);

  template <typename Body>
  static void
  call(const void* body, int64_t begin, int64_t end, int worker, Next& next) {
    if constexpr (
        std::is_invocable_v<const Body&, int64_t, int64_t, int, Next&>) {
      (*static_cast<const Body*>(body))(begin, end, worker, next);
    } else {
      (*static_cast<const Body*>(body))(begin, end, worker);
    }
  }

  void run(int64_t n, int64_t grain, Call call, const void* body);

  struct State;
  const int threads_;
  std::unique_ptr<State> state_;
};

class ThreadPool::Next {
 public:
  int64_t operator()() {
    return range().begin;
  }

 private:
  friend class ThreadPool;

  struct Range {
    int64_t begin;
    int64_t end;
  };

  // Without a state there is no next range.
  Next(State* state, int64_t n) : state_(state), range_{n, n} {}

  const Range& range();

  State* state_; // until the range is taken
  Range range_;
};

} // namespace mlx_flash
