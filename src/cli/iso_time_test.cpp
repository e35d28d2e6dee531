#include "cli/iso_time.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <ctime>

#include "mlx_flash/error.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

// Sets the zone of this process for one test.
class Zone {
 public:
  explicit Zone(const char* name) {
    ::setenv("TZ", name, 1);
    ::tzset();
  }
  ~Zone() {
    ::unsetenv("TZ");
    ::tzset();
  }
};

constexpr int64_t kMorning = 1721982600; // 2024-07-26T08:30:00Z

} // namespace

TEST_CASE("iso time: without a zone it is what a local clock shows") {
  for (const char* name : {"UTC0", "XYZ-5:30"}) {
    const Zone zone(name);
    CHECK(parse_iso_time("1970-01-01") == 0);
    CHECK(parse_iso_time("2024-07-26") == kMorning - 8 * 3600 - 1800);
    CHECK(parse_iso_time("2024-07-26T08:30:00") == kMorning);
    CHECK(parse_iso_time("2024-07-26 08:30") == kMorning);
    CHECK(parse_iso_time("2024-07-26T08:30:07.25") == kMorning + 7);
    CHECK(parse_iso_time("2024-02-29") == 1709164800);
  }
}

TEST_CASE("iso time: with a zone it is that moment on the local clock") {
  const Zone zone("XYZ-2"); // two hours ahead of UTC
  CHECK(parse_iso_time("2024-07-26T08:30:00Z") == kMorning + 7200);
  CHECK(parse_iso_time("2024-07-26T08:30:00+02:00") == kMorning);
  CHECK(parse_iso_time("2024-07-26T08:30:00-0130") == kMorning + 7200 + 5400);
}

TEST_CASE("iso time: anything else is refused") {
  for (const char* text :
       {"",
        "today",
        "2024",
        "2024-7-26",
        "2024-13-01",
        "2024-02-30",
        "2023-02-29",
        "2024-00-10",
        "2024-07-26T",
        "2024-07-26T8:30",
        "2024-07-26T24:00",
        "2024-07-26T08:60",
        "2024-07-26T08:30:00.",
        "2024-07-26T08:30:00X",
        "2024-07-26T08:30:00+2",
        "2024-07-26Z",
        "2024-07-26T08:30:00Z ",
        "-024-07-26",
        " 2024-07-26"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_iso_time(text), Error);
  }
}
