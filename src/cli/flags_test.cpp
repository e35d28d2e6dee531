#include "cli/flags.h"

#include <doctest/doctest.h>

#include "mlx_flash/error.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

// One flag of each kind.
struct Sample {
  std::optional<std::string> first;
  std::optional<std::string> second;
  bool on = false;
  std::optional<std::string> memory;
  std::vector<std::string> stops;
  std::optional<std::string> policy;
  std::optional<uint64_t> slots;
  std::optional<std::vector<uint64_t>> sizes;
  std::optional<float> temperature;
  Flags flags{"mlx-flash sample", "A sample"};

  Sample() {
    flags.positional("FIRST", first, "the first");
    flags.positional("SECOND", second, "the second");
    flags.group("Things");
    flags.toggle("--on", on, "a switch");
    flags.text("--memory,--ram", memory, "SIZE", "a text");
    flags.texts("--stop", stops, "TEXT", "several texts");
    flags.choice("--policy", policy, {"efd", "lru"}, "a choice");
    flags.count("--slots", slots, 1, 100, "a count");
    flags.count_list("--sizes", sizes, 1, 100, "several counts");
    flags.number("--temp", temperature, "a number");
  }

  std::string refusal(std::vector<std::string> arguments) {
    try {
      flags.parse(std::move(arguments));
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::invalid_argument);
      return e.what();
    }
    return "";
  }
};

std::string refusal(std::vector<std::string> arguments) {
  return Sample().refusal(std::move(arguments));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("flags: values of every kind arrive, in any order") {
  Sample s;
  CHECK(s.flags.parse(
      {"--slots",
       "7",
       "one",
       "--temp=0.5",
       "--stop",
       "a",
       "two",
       "--on",
       "--ram",
       "4GB",
       "--stop",
       "b",
       "--policy",
       "lru"}));
  CHECK(s.first == "one");
  CHECK(s.second == "two");
  CHECK(s.on);
  CHECK(s.memory == "4GB");
  CHECK(s.stops == std::vector<std::string>{"a", "b"});
  CHECK(s.policy == "lru");
  CHECK(s.slots == 7);
  CHECK(s.temperature == 0.5f);
}

TEST_CASE("flags: what is not given stays as it was") {
  Sample s;
  CHECK(s.flags.parse({}));
  CHECK_FALSE(s.first);
  CHECK_FALSE(s.on);
  CHECK_FALSE(s.slots);
  CHECK_FALSE(s.sizes);
  CHECK(s.stops.empty());
}

TEST_CASE("flags: a list of counts, and none") {
  using Sizes = std::vector<uint64_t>;
  const auto parse = [](const char* value) {
    Sample s;
    CHECK(s.flags.parse({"--sizes", value}));
    return s.sizes;
  };
  CHECK(parse("7") == Sizes{7});
  CHECK(parse("100,1,7,7") == Sizes{100, 1, 7, 7});
  CHECK(parse("none") == Sizes{});
  CHECK_FALSE(Sample().sizes);
  for (const char* value :
       {"",
        ",",
        "1,",
        ",1",
        "1,,2",
        "0",
        "1,101",
        "1 2",
        "1, 2",
        "None",
        "none,1",
        "-1"}) {
    CAPTURE(value);
    CHECK(contains(
        refusal({"--sizes", value}),
        "--sizes takes a whole number from 1 to 100"));
  }
  CHECK(contains(
      refusal({"--sizes", "1", "--sizes", "2"}), "--sizes is given 2 times"));
}

TEST_CASE("flags: a prompt may look like anything") {
  Sample s;
  CHECK(s.flags.parse({"model", "-"}));
  CHECK(s.second == "-");
  Sample dashes;
  CHECK(dashes.flags.parse({"--on", "model", "--", "--on fire"}));
  CHECK(dashes.second == "--on fire");
  Sample brackets;
  CHECK(brackets.flags.parse({"[a, b]", "{\"x\": 1}"}));
  CHECK(brackets.first == "[a, b]");
  CHECK(brackets.second == "{\"x\": 1}");
  Sample quotes;
  CHECK(quotes.flags.parse({"\"a\"", "", "--stop", "", "--stop", "'b', [c]"}));
  CHECK(quotes.first == "\"a\"");
  CHECK(quotes.second == "");
  CHECK(quotes.stops == std::vector<std::string>{"", "'b', [c]"});
}

TEST_CASE("flags: an unknown one is refused with the nearest name") {
  CHECK(
      refusal({"--memroy", "4GB"}) ==
      "[flags] unknown flag '--memroy'. Did you mean '--memory'? See mlx-flash "
      "sample --help");
  CHECK(contains(refusal({"--slot=4"}), "'--slot'. Did you mean '--slots'?"));
  CHECK(contains(refusal({"-x"}), "unknown flag '-x'"));
  CHECK(contains(refusal({"a", "b", "c"}), "unexpected argument 'c'"));
}

TEST_CASE("flags: a value that does not fit is refused by name") {
  CHECK(contains(refusal({"--slots"}), "--slots needs a value"));
  CHECK(contains(refusal({"--on=3"}), "--on takes no value"));
  for (const char* value : {"0", "101", "-1", "1.5", "x", "", "0x10", "1e1"}) {
    CAPTURE(value);
    CHECK(contains(
        refusal({"--slots", value}),
        "--slots takes a whole number from 1 to 100"));
  }
  for (const char* value : {"x", "", "nan", "inf", "1.5x"}) {
    CAPTURE(value);
    CHECK(contains(refusal({"--temp", value}), "--temp takes a number"));
  }
  CHECK(contains(
      refusal({"--policy", "lur"}),
      "--policy takes efd|lru, not 'lur'. Did you mean 'lru'?"));
  CHECK(contains(
      refusal({"--slots", "1", "--slots", "2"}), "--slots is given 2 times"));
  CHECK(contains(
      refusal({"--memory", "1GB", "--ram", "2GB"}),
      "--memory is given 2 times"));
}

TEST_CASE("flags: help lists everything, and ends with the footer") {
  Sample s;
  CHECK_FALSE(s.flags.parse({"--help"}));
  CHECK_FALSE(Sample().flags.parse({"model", "-h"}));
  const std::string help = s.flags.help("the footer");
  for (const char* part :
       {"A sample",
        "mlx-flash sample",
        "FIRST",
        "Things:",
        "--memory,--ram SIZE",
        "--policy efd|lru",
        "a number",
        "the footer"}) {
    CAPTURE(part);
    CHECK(contains(help, part));
  }
}
