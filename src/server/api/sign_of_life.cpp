#include "server/api/sign_of_life.h"

#include <mutex>
#include <utility>

namespace mlx_flash::server {

struct SignOfLife::State {
  Loop& loop;
  const double seconds;
  const std::function<double()> now;
  std::function<void()> say{};
  double last = 0; // when something was written
  std::mutex mutex{}; // of these two
  Task call_off = [] {};
  bool over = false;

  // One timer at a time, however much is written.
  static void wait(const std::shared_ptr<State>& state, double seconds) {
    std::lock_guard lock(state->mutex);
    if (!state->over) {
      state->call_off = state->loop.post_after(
          seconds, [weak = std::weak_ptr<State>(state)] { look(weak); });
    }
  }

  // Any thread.
  void end() {
    std::lock_guard lock(mutex);
    over = true;
    std::exchange(call_off, [] {})();
  }

  static void look(const std::weak_ptr<State>& weak) {
    const auto state = weak.lock();
    if (!state || !state->say) {
      return;
    }
    double left = state->last + state->seconds - state->now();
    if (left <= 0) {
      state->last = state->now();
      left = state->seconds;
      const auto say = state->say; // which may stop or destroy the owner
      say();
    }
    wait(state, left);
  }
};

SignOfLife::SignOfLife(Loop& loop, double seconds, std::function<double()> now)
    : state_(new State{loop, seconds, std::move(now)}) {}

SignOfLife::~SignOfLife() {
  state_->end();
}

void SignOfLife::begin(std::function<void()> say) {
  if (state_->seconds > 0) {
    state_->last = state_->now();
    state_->say = std::move(say);
    State::wait(state_, state_->seconds);
  }
}

void SignOfLife::wrote() {
  state_->last = state_->now();
}

void SignOfLife::stop() {
  state_->say = nullptr;
  state_->end();
}

} // namespace mlx_flash::server
