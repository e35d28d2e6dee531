#include "parse/json_prefix.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"

using mlx_flash::Rng;
using mlx_flash::parse::JsonPrefix;
using nlohmann::json;

namespace {

// How many bytes it takes.
size_t push_all(JsonPrefix& prefix, std::string_view text) {
  size_t taken = 0;
  while (taken < text.size() && prefix.push(text[taken])) {
    ++taken;
  }
  return taken;
}

std::string closed(std::string_view text) {
  JsonPrefix prefix;
  push_all(prefix, text);
  return std::string(text.substr(0, prefix.certain())) + prefix.closing();
}

JsonPrefix::State state_of(std::string_view text) {
  JsonPrefix prefix;
  push_all(prefix, text);
  return prefix.state();
}

const std::vector<std::string> kValues = {
    R"({})",
    R"([])",
    R"("")",
    R"({"a": 1, "b": [true, false, null, -0.5e+3, 12, 0], "c": {"d": "e"}})",
    R"([ 1 , 2 ,[ ] , { } ,"x" ])",
    R"({"quote \" and \\ and \u00e9 and \ud83d\ude00 é漢🙂": "\n\/\b"})",
    "{\n\t\"k\" :\r\n [ \"v\" ]\n}",
    R"([1e300, -1E-300, 0.1, 10, -0, 0.0e0])",
};

} // namespace

TEST_CASE("json prefix: a value is complete at its last byte") {
  for (const std::string& value : kValues) {
    CAPTURE(value);
    JsonPrefix prefix;
    CHECK(push_all(prefix, value + "x") == value.size());
    CHECK(prefix.state() == JsonPrefix::State::complete);
    CHECK(prefix.certain() == value.size());
    CHECK(prefix.closing() == "");
  }
}

TEST_CASE("json prefix: a number and a word end at the value's end") {
  for (const char* value : {"0", "-12.5e7", "true", "null"}) {
    JsonPrefix prefix;
    CHECK(push_all(prefix, std::string(value) + ",") == std::strlen(value));
    CHECK(prefix.state() == JsonPrefix::State::complete);
    CHECK(prefix.certain() == std::strlen(value));
  }
}

TEST_CASE("json prefix: every beginning is closed into the value's type") {
  for (const std::string& value : kValues) {
    for (size_t size = 1; size < value.size(); ++size) {
      const std::string text = closed(std::string_view(value).substr(0, size));
      CAPTURE(text);
      const json parsed = json::parse(text, nullptr, false);
      CHECK(parsed.type() == json::parse(value).type());
    }
  }
}

TEST_CASE("json prefix: what could be something else is held back") {
  const auto told = [](std::string_view text) {
    JsonPrefix prefix;
    push_all(prefix, text);
    return text.substr(0, prefix.certain());
  };
  CHECK(told(R"({"a": 1)") == R"({"a": )");
  CHECK(told(R"({"a": tru)") == R"({"a": )");
  CHECK(told(R"({"a": "x)") == R"({"a": "x)");
  CHECK(told(R"({"a": "x\u00)") == R"({"a": "x)");
  CHECK(told(R"({"a": "x\ud83d)") == R"({"a": "x)");
  CHECK(told("{\"a\": \"x\xE6\xBC") == "{\"a\": \"x");
  CHECK(told(R"({"a": 1, )") == R"({"a": 1)");
  CHECK(told(R"({"a": 1, "b)") == R"({"a": 1, "b)");
  CHECK(told("[1, ") == "[1");
}

TEST_CASE("json prefix: what cannot become JSON is broken at once") {
  for (const char* text :
       {"{a",       "{\"a\" 1",   "[1,]",       "{\"a\":1,}",
        "[01",      "[-]",        "[1.]",       "[1e]",
        "[.5",      "[+1",        "[tru ",      "[nul1",
        "[1 2",     "[}",         "{]",         "{\"a\"]",
        "\"\\x",    "\"\\u12g",   "\"\\udc00",  "\"\\ud800x",
        "\"\n",     "\"\xC0\x80", "\"\xED\xA0", "\"\xF4\x90",
        "\"\x80",   "\"\xFF",     "\"\xE6\"",   "[1e999]",
        "[-1e999 ", "]",          "x",          "\"\\ud800\\u0041",
        "[1-2",     "[1e+-2",     "[1.2.3",     "[--1"}) {
    CAPTURE(text);
    CHECK(state_of(text) == JsonPrefix::State::broken);
  }
}

TEST_CASE("json prefix: depth and the length of numbers are bounded") {
  const std::string deep(JsonPrefix::kMostDepth, '[');
  CHECK(state_of(deep) == JsonPrefix::State::reading);
  CHECK(state_of(deep + "[") == JsonPrefix::State::broken);
  CHECK(json::accept(closed(deep + "[")));
  const std::string number(JsonPrefix::kMostNumberBytes - 2, '3');
  CHECK(state_of("0." + number + " ") == JsonPrefix::State::complete);
  CHECK(state_of("0." + number + "3") == JsonPrefix::State::broken);
}

TEST_CASE("json prefix: it agrees with the library about damaged values") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  const std::string_view alphabet = "{}[]\",:\\u0019dDeE+-.tfna \n\xE6\xBC\xA2";
  for (int round = 0; round < 20'000; ++round) {
    std::string text = kValues[rng.below(kValues.size())];
    for (uint64_t changes = rng.below(3); changes > 0; --changes) {
      text[rng.below(text.size())] = alphabet[rng.below(alphabet.size())];
    }
    if (text[0] == ' ' || text[0] == '\n') {
      continue;
    }
    CAPTURE(text);
    JsonPrefix prefix;
    const size_t taken = push_all(prefix, text);
    const bool whole =
        prefix.state() == JsonPrefix::State::complete && taken == text.size();
    if (taken == text.size() || json::accept(text)) {
      // A number alone does not know that it is over.
      prefix.push(' ');
      CHECK(
          (whole || prefix.state() == JsonPrefix::State::complete) ==
          json::accept(text));
    }
    const std::string made =
        text.substr(0, prefix.certain()) + prefix.closing();
    CAPTURE(made);
    CHECK((prefix.certain() == 0 || json::accept(made)));
  }
}
