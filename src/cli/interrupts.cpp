#include "cli/interrupts.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "cli/exit_code.h"
#include "cli/status_line.h"

namespace mlx_flash::cli {

namespace {

constexpr char kSignal = 's';
constexpr char kStop = 'q';

// A signal handler may do little more than write: it wakes the watcher.
int pipe_ends[2] = {-1, -1};

void on_signal(int) {
  const int saved = errno;
  [[maybe_unused]] const ssize_t written = ::write(pipe_ends[1], &kSignal, 1);
  errno = saved;
}

void handle_signals(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGINT, SIGTERM}) {
    sigaction(number, &action, nullptr);
  }
}

} // namespace

void end_program() {
  StatusLine::restore_terminal();
  std::_Exit(kExitCancelled);
}

Interrupts::Interrupts(Repeat repeat)
    : most_handled_(repeat == Repeat::to_handler ? 2 : 1) {
  if (::pipe(pipe_ends) != 0) {
    fail(
        ErrorCode::internal,
        "[signals] cannot make a pipe: {}",
        std::strerror(errno));
  }
  for (const int end : pipe_ends) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  watcher_ = std::thread([this] { watch(); });
  handle_signals(on_signal);
}

Interrupts::~Interrupts() {
  handle_signals(SIG_DFL);
  [[maybe_unused]] const ssize_t written = ::write(pipe_ends[1], &kStop, 1);
  watcher_.join();
  for (int& end : pipe_ends) {
    ::close(end);
    end = -1;
  }
}

void Interrupts::set_handler(std::function<void()> handler) {
  std::lock_guard lock(mutex_);
  handler_ = std::move(handler);
}

void Interrupts::watch() {
  char byte = 0;
  while (true) {
    const ssize_t n = ::read(pipe_ends[0], &byte, 1);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n != 1 || byte == kStop) {
      return;
    }
    std::lock_guard lock(mutex_);
    if (handled_ == most_handled_ || !handler_) {
      end_program();
    }
    ++handled_;
    handler_();
  }
}

} // namespace mlx_flash::cli
