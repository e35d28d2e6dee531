#include "cli/iso_time.h"

#include <chrono>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"

namespace mlx_flash::cli {

namespace {

// Reads a time from left to right. After the first thing that is not as it
// must be, ok() is false.
class TimeScanner {
 public:
  explicit TimeScanner(std::string_view text) : rest_(text) {}

  bool ok() const {
    return ok_;
  }
  bool at_end() const {
    return rest_.empty();
  }

  // A number of so many digits, at most `most`.
  int number(size_t digits, int most) {
    int value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = take();
      ok_ = ok_ && c >= '0' && c <= '9';
      value = value * 10 + (c - '0');
    }
    ok_ = ok_ && value <= most;
    return ok_ ? value : 0;
  }

  void expect(char c) {
    ok_ = take() == c && ok_;
  }

  // The next character if it is one of `choices`, else 0.
  char one_of(std::string_view choices) {
    const bool found = !rest_.empty() && choices.find(rest_[0]) != choices.npos;
    return found ? take() : '\0';
  }

 private:
  char take() {
    if (rest_.empty()) {
      ok_ = false;
      return '\0';
    }
    const char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }

  std::string_view rest_;
  bool ok_ = true;
};

// Seconds from the epoch to the beginning of a day.
int64_t scan_date(TimeScanner& in, bool& exists) {
  const int year = in.number(4, 9999);
  in.expect('-');
  const int month = in.number(2, 12);
  in.expect('-');
  const int day = in.number(2, 31);
  const std::chrono::year_month_day date{
      std::chrono::year(year),
      std::chrono::month(static_cast<unsigned>(month)),
      std::chrono::day(static_cast<unsigned>(day))};
  exists = in.ok() && date.ok();
  if (!exists) {
    return 0;
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(days).count();
}

// Hours and minutes, with seconds and a fraction, which is dropped, if they
// are there. In seconds.
int64_t scan_clock(TimeScanner& in) {
  const int hour = in.number(2, 23);
  in.expect(':');
  const int minute = in.number(2, 59);
  const int second = in.one_of(":") ? in.number(2, 59) : 0;
  if (in.one_of(".")) {
    in.number(1, 9);
    while (in.one_of("0123456789")) {
    }
  }
  return int64_t{hour} * 3600 + minute * 60 + second;
}

// What a zone is ahead of UTC, in seconds; empty without one: local time.
std::optional<int64_t> scan_zone(TimeScanner& in) {
  const char sign = in.one_of("Z+-");
  if (sign == '\0') {
    return std::nullopt;
  }
  if (sign == 'Z') {
    return 0;
  }
  const int hours = in.number(2, 23);
  in.one_of(":");
  const int minutes = in.number(2, 59);
  const int64_t offset = int64_t{hours} * 3600 + minutes * 60;
  return sign == '-' ? -offset : offset;
}

} // namespace

int64_t parse_iso_time(const std::string& text) {
  TimeScanner in(text);
  bool exists = false;
  int64_t time = scan_date(in, exists);
  std::optional<int64_t> zone;
  if (in.one_of("T ")) {
    time += scan_clock(in);
    zone = scan_zone(in);
  }
  if (!exists || !in.ok() || !in.at_end()) {
    fail(
        ErrorCode::invalid_argument,
        "[time] '{}' is no date and time; write it as 2024-07-26 or "
        "2024-07-26T08:30:00, with Z or +02:00 behind it where it is not "
        "local",
        text);
  }
  if (!zone) {
    return time;
  }
  const int64_t moment = time - *zone;
  return moment + local_offset_seconds(moment);
}

} // namespace mlx_flash::cli
