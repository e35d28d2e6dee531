// Lets a client that waits know that it is not forgotten: calls a function
// whenever nothing was written for so many seconds. What it writes is up to
// its owner.
//
// Thread rule: the loop, but for the constructor and begin().
#pragma once

#include <functional>
#include <memory>

#include "base/clock.h"
#include "server/loop.h"

namespace mlx_flash::server {

class SignOfLife {
 public:
  // `seconds` without a word; none is ever given if it is not positive. `now`
  // is in seconds. The loop must outlive it.
  SignOfLife(
      Loop& loop,
      double seconds,
      std::function<double()> now = now_seconds);
  ~SignOfLife();
  SignOfLife(const SignOfLife&) = delete;
  SignOfLife& operator=(const SignOfLife&) = delete;

  // Once. Time counts from here on. `say` is called on the loop until this is
  // stopped or destroyed; as that may happen on another thread just then, it
  // should hold no more than a weak pointer to its owner.
  void begin(std::function<void()> say);
  // Something was written.
  void wrote();
  void stop();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

} // namespace mlx_flash::server
