// One line about the work in progress, rewritten in place on a terminal and
// nowhere else. While text streams to the same terminal the line has the
// bottom row to itself and the text scrolls above it.
//
// Thread rule: used by one thread. The text of the line is asked for on a
// thread of its own, several times a second.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace mlx_flash::cli {

class StatusLine {
 public:
  enum class Place {
    in_line, // where the cursor is: nothing else is written meanwhile
    bottom_row, // when standard output is the terminal too, else as in_line
  };

  // `describe` must be callable from another thread. Does nothing unless
  // `wanted` and standard error is a terminal that can rewrite a line.
  StatusLine(bool wanted, Place place, std::function<std::string()> describe);
  // Takes the line away.
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  // Gives the terminal its bottom row back; for a program that ends without
  // destructors. Safe from any thread.
  static void restore_terminal();

 private:
  void draw_until_stopped();
  void draw();

  const std::function<std::string()> describe_;
  bool bottom_row_ = false;
  int rows_ = 0; // of the terminal when the bottom row was taken
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread drawer_;
};

// True when standard error is a terminal that understands escape sequences.
bool stderr_is_terminal();

} // namespace mlx_flash::cli
