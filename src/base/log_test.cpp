#include "base/log.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <regex>
#include <sstream>

#include "base/error.h"
#include "base/log_format.h"

using namespace mlx_flash;

namespace {

// What the log says while it lives.
class Listener {
 public:
  explicit Listener(const char* format)
      : before_(log::logger().sinks()), level_(log::logger().level()) {
    log::logger().sinks() = {
        std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)};
    log::set_format(format);
  }
  ~Listener() {
    log::logger().sinks() = before_;
    log::logger().set_level(level_);
    log::set_format("text");
  }

  std::string text() const {
    return text_.str();
  }

 private:
  const std::vector<spdlog::sink_ptr> before_;
  const spdlog::level::level_enum level_;
  std::ostringstream text_;
};

std::string in_line(std::string_view text) {
  std::string line;
  log::append_line_text(line, text);
  return line;
}

std::string in_json(std::string_view text) {
  std::string line;
  log::append_json_text(line, text);
  return line;
}

} // namespace

TEST_CASE("log: a line of text says who, how bad and what") {
  Listener listener("text");
  log::warn("disk {} is slow", 7);
  CHECK(listener.text() == "mlx-flash: warning: disk 7 is slow\n");
}

TEST_CASE("log: what is logged cannot begin a line of its own") {
  for (const char* format : {"text", "json"}) {
    CAPTURE(format);
    Listener listener(format);
    log::warn("path={}", "/x\nmlx-flash: error: \r\x1b[2J\xff");
    const std::string text = listener.text();
    CHECK(text.find('\n') == text.size() - 1);
    CHECK(text.find('\r') == std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
  }
}

TEST_CASE("log: a line of JSON is an object with the time in UTC") {
  Listener listener("json");
  log::set_level("info");
  log::info("request=r-1 said \"hi\"");
  log::warn("two");
  const std::string when =
      R"(\{"ts":"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{3}Z",)";
  CHECK(std::regex_match(
      listener.text(),
      std::regex(
          when +
          R"("level":"info","msg":"request=r-1 said \\"hi\\""\})"
          "\n" +
          when +
          R"("level":"warning","msg":"two"\})"
          "\n")));
}

TEST_CASE("log: a format that is not known is refused") {
  CHECK_THROWS_WITH_AS(
      log::set_format("xml"),
      "[log] unknown format 'xml'; use text or json",
      Error);
}

TEST_CASE("log: text keeps what can be read and escapes what cannot") {
  CHECK(
      in_line("a \"b\" \\ \xc3\xa9 \xf0\x9f\x98\x80") ==
      "a \"b\" \\ \xc3\xa9 \xf0\x9f\x98\x80");
  CHECK(in_line("\t\n\r\x01\x7f") == "\\t\\n\\r\\u0001\\u007f");
  CHECK(in_line("\xc2\x9b") == "\\u009b"); // CSI in one character
  CHECK(in_line(std::string_view("\0", 1)) == "\\u0000");
}

TEST_CASE("log: JSON strings are escaped") {
  CHECK(in_json("a\"b\\c\n\x1b/") == R"("a\"b\\c\n\u001b/")");
  CHECK(in_json("\xe2\x82\xac") == "\"\xe2\x82\xac\"");
  CHECK(in_json("") == "\"\"");
}

TEST_CASE("log: bytes that are no UTF-8 never come out as they are") {
  const std::string no_text[] = {
      "\x80", // no first byte
      "\xc0\xaf", // overlong
      "\xe0\x80\xaf",
      "\xf0\x80\x80\xaf",
      "\xed\xa0\x80", // a surrogate
      "\xf4\x90\x80\x80", // beyond U+10FFFF
      "\xff\xfe",
      "\xe2\x82", // cut off
      "\xc3(",
  };
  for (const std::string& bytes : no_text) {
    CAPTURE(in_line(bytes));
    CHECK(in_line("a" + bytes + "b").find("a\\x") == 0);
    CHECK(in_line("a" + bytes + "b").back() == 'b');
    CHECK(in_json("a" + bytes + "b").find("\"a\xef\xbf\xbd") == 0);
    for (const char c : in_line(bytes)) {
      CHECK(static_cast<unsigned char>(c) < 0x80);
    }
  }
}
