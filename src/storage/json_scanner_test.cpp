// The reference is nlohmann's parser: whatever it accepts as strict JSON and
// our limits allow, the scanner accepts, and nothing else.
#include "storage/json_scanner.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rng.h"

using namespace mlx_flash;

namespace {

// The same text in pieces of `piece` bytes.
JsonScanner::Refill pieces(std::string_view text, size_t piece) {
  return [text, piece]() mutable {
    const auto chunk = text.substr(0, piece);
    text.remove_prefix(chunk.size());
    return chunk;
  };
}

std::string error_of(std::string_view text, JsonLimits limits, size_t piece) {
  try {
    JsonScanner scanner(pieces(text, piece), "[test] file", "mend it", limits);
    scanner.skip();
    scanner.finish();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::bad_model);
    return error.what();
  }
  return {};
}

bool accepts(std::string_view text, JsonLimits limits = {}) {
  const std::string whole = error_of(text, limits, 1 << 20);
  // How the text is cut must not matter.
  CHECK(error_of(text, limits, 1) == whole);
  CHECK(error_of(text, limits, 3) == whole);
  return whole.empty();
}

// Builds a value from what the scanner hands out.
nlohmann::json build(JsonScanner& scanner) {
  switch (scanner.peek()) {
    case JsonScanner::Kind::object: {
      auto object = nlohmann::json::object();
      scanner.begin_object();
      for (std::string name; scanner.next_member(name);) {
        object[name] = build(scanner);
      }
      return object;
    }
    case JsonScanner::Kind::array: {
      auto array = nlohmann::json::array();
      scanner.begin_array();
      while (scanner.next_element()) {
        array.push_back(build(scanner));
      }
      return array;
    }
    case JsonScanner::Kind::string:
      return scanner.string();
    case JsonScanner::Kind::number:
      return nlohmann::json::parse(scanner.number());
    case JsonScanner::Kind::boolean:
      return scanner.boolean();
    case JsonScanner::Kind::null:
      scanner.null();
      return nullptr;
  }
  return {};
}

std::string random_text(Rng& rng, int depth) {
  static const char* const scalars[] = {
      "0",
      "-1",
      "1.5",
      "-0.25e+3",
      "12E-2",
      "true",
      "false",
      "null",
      "\"\"",
      "\"name\"",
      "\"\\u00e9\\n\\\\\\/\"",
      "\"\\ud83d\\ude00\"",
      "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
      "18446744073709551616"};
  const uint64_t kind = rng.below(depth > 4 ? 1 : 3);
  if (kind == 0) {
    return scalars[rng.below(std::size(scalars))];
  }
  std::string text = kind == 1 ? "{" : "[";
  const uint64_t n = rng.below(4);
  for (uint64_t i = 0; i < n; ++i) {
    text += i ? " ,\n" : "";
    if (kind == 1) {
      text += "\"k" + std::to_string(rng.below(9)) + "\"\t: ";
    }
    text += random_text(rng, depth + 1);
  }
  return text + (kind == 1 ? "}" : "]");
}

void mutate(std::string& text, Rng& rng) {
  static const std::string_view bytes =
      "{}[]\",:\\u0123eE+-.tfn \x80\xc3\xed\xf4";
  const uint64_t at = rng.below(text.size() + 1);
  switch (rng.below(4)) {
    case 0:
      text.insert(at, 1, bytes[rng.below(bytes.size())]);
      break;
    case 1:
      text.erase(at, 1 + rng.below(3));
      break;
    case 2:
      if (at < text.size()) {
        text[at] = bytes[rng.below(bytes.size())];
      }
      break;
    default:
      if (at < text.size()) {
        text[at] = static_cast<char>(rng.next());
      }
  }
}

} // namespace

TEST_CASE("json scanner: accepts and refuses as the reference does") {
  const uint64_t seed = 7;
  CAPTURE(seed);
  Rng rng(seed);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = random_text(rng, 0);
    const uint64_t mutations = rng.below(3);
    for (uint64_t m = 0; m < mutations; ++m) {
      mutate(text, rng);
    }
    CAPTURE(text);
    const bool expected = nlohmann::json::accept(text);
    REQUIRE(accepts(text) == expected);
    accepted += expected;
  }
  CHECK(accepted > 5000);
  CHECK(accepted < 18000);
}

TEST_CASE("json scanner: hands out the values that the reference parses") {
  const uint64_t seed = 8;
  CAPTURE(seed);
  Rng rng(seed);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(rng, 0);
    CAPTURE(text);
    JsonScanner scanner(pieces(text, 1 + rng.below(9)), "w", "h");
    REQUIRE(build(scanner) == nlohmann::json::parse(text));
    scanner.finish();
  }
}

TEST_CASE("json scanner: strings are strict UTF-8 without controls") {
  CHECK(accepts("\"\xed\x9f\xbf\xf4\x8f\xbf\xbf\""));
  for (const char* text :
       {"\"\xc0\x80\"", // overlong
        "\"\xe0\x80\x80\"",
        "\"\xf0\x80\x80\x80\"",
        "\"\xed\xa0\x80\"", // a surrogate
        "\"\xf4\x90\x80\x80\"", // above U+10FFFF
        "\"\x80\"",
        "\"\xff\"",
        "\"\xe2\x82\"",
        "\"\xe2",
        "\"\n\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\x41\"",
        "\"\\u00g0\"",
        "\"\\",
        "\"abc"}) {
    CAPTURE(text);
    CHECK_FALSE(accepts(text));
    CHECK_FALSE(nlohmann::json::accept(text));
  }
}

TEST_CASE("json scanner: what other dialects allow is refused") {
  for (const char* text :
       {"",
        " ",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "[1 2]",
        "[,1]",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "-",
        "1e999",
        "NaN",
        "Infinity",
        "nul",
        "truefalse",
        "1 2",
        "// x\n1",
        "\xef\xbb\xbf{}",
        "{\"a\":1}}",
        "[1}",
        "{\"a\":[}"}) {
    CAPTURE(text);
    CHECK_FALSE(accepts(text));
  }
}

TEST_CASE("json scanner: depth, length and count are bounded") {
  JsonLimits limits;
  limits.depth = 3;
  CHECK(accepts("[[[1]]]", limits));
  CHECK_FALSE(accepts("[[[[1]]]]", limits));
  CHECK(
      error_of("[[{\"a\":[", limits, 64).find("deeper than 3") !=
      std::string::npos);
  CHECK(accepts("[[[]],[[]],[[]]]", limits));

  limits = {};
  limits.values = 4;
  CHECK(accepts("[1,2,3]", limits));
  CHECK_FALSE(accepts("[1,2,3,4]", limits));
  CHECK(accepts("{\"a\":{\"b\":{}}}", {64, 64, 64, 5}));
  CHECK_FALSE(accepts("{\"a\":{\"b\":{}}}", limits));

  limits = {};
  limits.string_bytes = 3;
  JsonScanner kept("[\"abc\",\"abcd\"]", "w", "h", limits);
  kept.begin_array();
  REQUIRE(kept.next_element());
  CHECK(kept.string() == "abc");
  REQUIRE(kept.next_element());
  CHECK_THROWS_AS(kept.string(), Error);
  CHECK(accepts("[\"abcd\"]", limits)); // skipped strings cost no memory
  limits.skipped_bytes = 6;
  CHECK(accepts("\"abcdef\"", limits));
  CHECK_FALSE(error_of("\"abcdefghi\"", limits, 64).empty());
  CHECK_FALSE(error_of("\"abcdefghi\"", limits, 1).empty());

  CHECK(accepts(std::string(64, '1')));
  CHECK_FALSE(accepts(std::string(65, '1')));
}

TEST_CASE("json scanner: unsigned integers are exact or refused") {
  const auto value = [](const char* text) {
    JsonScanner scanner(text, "w", "h");
    return scanner.unsigned_integer();
  };
  CHECK(value("0") == 0);
  CHECK(value(" 42") == 42);
  CHECK(value("9223372036854775807") == INT64_MAX);
  for (const char* text :
       {"-1", "-0", "1.0", "1e3", "9223372036854775808", "\"1\"", "[]"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(value(text), Error);
  }
}

TEST_CASE("json scanner: a refusal names the file and the byte") {
  const std::string text = error_of("{\"abc\": tru}", {}, 2);
  CHECK(text == "[test] file: unknown word at byte 11; mend it");
}

TEST_CASE("json scanner: quoted names are short and harmless") {
  CHECK(in_quotes("a\x1b[2Jb\n") == "'a?[2Jb?'");
  CHECK(in_quotes(std::string(500, 'x')).size() < 130);
}
