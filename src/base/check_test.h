// For tests of what must not happen: whether a call ends the process by a
// failed check.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace mlx_flash {

// Runs `misuse` in a child process, whose messages are thrown away. Not for
// tests that have started threads.
template <typename Misuse>
bool fails_check(Misuse misuse) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stderr)) {
      _exit(1);
    }
    // The test framework's handler would report a crash of the test.
    std::signal(SIGABRT, SIG_DFL);
    misuse();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

} // namespace mlx_flash
