#include "generate/stop_strings.h"

#include <doctest/doctest.h>

#include "base/rng.h"
#include "mlx_flash/error.h"

using namespace mlx_flash;

namespace {

// The text before the first stop string to be complete, found by trying each
// end; the whole text without one.
std::string before_stop(
    const std::string& text,
    const std::vector<std::string>& stop_strings,
    bool& found) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stop_strings) {
      if (text.substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) {
      found = true;
      return text.substr(0, end - longest);
    }
  }
  found = false;
  return text;
}

// True when the end of `text` could become a stop string.
size_t unsure_bytes(
    const std::string& text,
    const std::vector<std::string>& stop_strings) {
  for (size_t size = text.size(); size > 0; --size) {
    for (const std::string& stop : stop_strings) {
      if (stop.starts_with(text.substr(text.size() - size))) {
        return size;
      }
    }
  }
  return 0;
}

std::string random_text(Rng& rng, size_t size) {
  std::string text(size, 'a');
  for (char& c : text) {
    c = static_cast<char>('a' + rng.below(3));
  }
  return text;
}

} // namespace

TEST_CASE("stop strings: the text before one is returned, it is not") {
  StopStrings stop({"END"});
  CHECK(stop.push("one ") == "one ");
  CHECK(stop.push("two E") == "two ");
  CHECK(stop.push("N") == "");
  CHECK_FALSE(stop.finished());
  CHECK(stop.push("D three") == "");
  CHECK(stop.finished());
  CHECK(stop.push("four") == "");
  CHECK(stop.flush() == "");
}

TEST_CASE("stop strings: held back text comes out when it was none") {
  StopStrings stop({"END"});
  CHECK(stop.push("EN") == "");
  CHECK(stop.push("EN") == "EN");
  CHECK(stop.push("E!") == "ENE!");
  CHECK(stop.push("xEN") == "x");
  CHECK(stop.flush() == "EN");
  CHECK(stop.flush() == "");
  CHECK_FALSE(stop.finished());
}

TEST_CASE("stop strings: without any, text passes at once") {
  StopStrings stop({});
  CHECK(stop.push("anything") == "anything");
  CHECK(stop.flush() == "");
}

TEST_CASE("stop strings: the first to be complete wins, then the longest") {
  bool unused = false;
  StopStrings overlapping({"abcd", "bc"});
  CHECK(overlapping.push("xabcd") == "xa");
  CHECK(before_stop("xabcd", {"abcd", "bc"}, unused) == "xa");
  StopStrings nested({"c", "abc"});
  CHECK(nested.push("xabc") == "x");
}

TEST_CASE("stop strings: a character is never cut in two") {
  // The two characters share their first byte.
  StopStrings stop({"\xc3\xa4"});
  CHECK(stop.push("a\xc3\xb6\xc3") == "a\xc3\xb6");
  CHECK(stop.push("\xb6") == "\xc3\xb6");
}

TEST_CASE("stop strings: an empty one is refused") {
  CHECK_THROWS_AS(StopStrings({"a", ""}), Error);
}

TEST_CASE("stop strings: equal to a search of the whole text, however cut") {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    std::vector<std::string> stop_strings(rng.below(4));
    for (std::string& stop : stop_strings) {
      stop = random_text(rng, 1 + rng.below(5));
    }
    const std::string text = random_text(rng, rng.below(40));
    bool found = false;
    const std::string expected = before_stop(text, stop_strings, found);

    StopStrings matcher(stop_strings);
    std::string result;
    size_t pushed = 0;
    while (pushed < text.size()) {
      const size_t size = 1 + rng.below(6);
      result += matcher.push(text.substr(pushed, size));
      pushed = std::min(text.size(), pushed + size);
      if (!matcher.finished()) {
        // Held back as long as needed, and no longer.
        const std::string seen = text.substr(0, pushed);
        const size_t held = unsure_bytes(seen, stop_strings);
        REQUIRE(result == seen.substr(0, seen.size() - held));
      }
    }
    result += matcher.flush();
    REQUIRE(matcher.finished() == found);
    REQUIRE(result == expected);
  }
}
