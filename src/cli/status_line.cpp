#include "cli/status_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "cli/output.h"

namespace mlx_flash::cli {

namespace {

constexpr auto kPeriod = std::chrono::milliseconds(125);
constexpr int kFewestRows = 4; // below, text would have no room to scroll

// Escape sequences of the VT100, as every terminal in use has them.
constexpr const char* kClearRow = "\r\033[K";
constexpr const char* kSaveCursor = "\0337";
constexpr const char* kRestoreCursor = "\0338";
constexpr const char* kScrollEverywhere = "\033[r";

// Rows of the terminal whose bottom row is taken; 0 when none is.
std::atomic<int> taken_rows = 0;

struct Size {
  int rows = 0;
  int columns = 0;
};

Size terminal_size() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return {0, 80};
  }
  return {size.ws_row, size.ws_col};
}

// `bytes` of the text at most, and no part of a UTF-8 character.
std::string cut(std::string text, int bytes) {
  size_t end = std::min(text.size(), static_cast<size_t>(bytes));
  while (end > 0 && end < text.size() && (text[end] & 0xC0) == 0x80) {
    --end;
  }
  text.resize(end);
  return text;
}

void take_bottom_row(int rows) {
  // The cursor must be above the row; scroll regions move it to the top.
  print_error(
      fmt::format("{}\033[1;{}r{}", kSaveCursor, rows - 1, kRestoreCursor));
  taken_rows = rows;
}

} // namespace

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr &&
      std::string_view(term) != "dumb" && term[0] != '\0';
}

StatusLine::StatusLine(
    bool wanted,
    Place place,
    std::function<std::string()> describe)
    : describe_(std::move(describe)) {
  if (!wanted || !stderr_is_terminal()) {
    return;
  }
  if (place == Place::bottom_row && ::isatty(STDOUT_FILENO) == 1) {
    rows_ = terminal_size().rows;
    if (rows_ < kFewestRows) {
      return;
    }
    bottom_row_ = true;
    print_error("\n\033[A"); // room below the cursor, also at the bottom
    take_bottom_row(rows_);
  }
  drawer_ = std::thread([this] { draw_until_stopped(); });
}

StatusLine::~StatusLine() {
  if (!drawer_.joinable()) {
    return;
  }
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  drawer_.join();
  if (bottom_row_) {
    restore_terminal();
  } else {
    print_error(kClearRow);
  }
}

void StatusLine::restore_terminal() {
  const int rows = taken_rows.exchange(0);
  if (rows > 0) {
    print_error(fmt::format(
        "{}{}\033[{};1H\033[K{}",
        kSaveCursor,
        kScrollEverywhere,
        rows,
        kRestoreCursor));
  }
}

void StatusLine::draw_until_stopped() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    draw();
    lock.lock();
    wake_.wait_for(lock, kPeriod, [&] { return stopping_; });
  }
}

void StatusLine::draw() {
  const Size size = terminal_size();
  // One column stays free, so that no terminal wraps the line.
  const std::string text = cut(describe_(), std::max(size.columns - 1, 1));
  if (!bottom_row_) {
    print_error(fmt::format("{}{}", kClearRow, text));
    return;
  }
  if (size.rows != rows_ && size.rows >= kFewestRows) {
    rows_ = size.rows;
    take_bottom_row(rows_);
  }
  print_error(fmt::format(
      "{}\033[{};1H\033[7m{}\033[0m\033[K{}",
      kSaveCursor,
      rows_,
      text,
      kRestoreCursor));
}

} // namespace mlx_flash::cli
