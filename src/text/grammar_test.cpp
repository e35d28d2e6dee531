#include "text/grammar.h"

#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rng.h"
#include "text/detokenizer.h"
#include "text/test_tokenizers.h"

namespace mlx_flash {

namespace {

using nlohmann::json;

// The model's vocabulary is a little larger than the tokenizer's.
constexpr size_t kPadding = 13;

TokenId end_of_text(const Tokenizer& tokenizer) {
  for (const char* name : {"<|im_end|>", "<|endoftext|>", "</s>", "<eos>"}) {
    if (const auto id = tokenizer.find(name)) {
      return *id;
    }
  }
  FAIL("no end token");
  return 0;
}

const Grammar& demo_grammar() {
  static const Grammar grammar(
      test_tokenizer("demo"),
      test_tokenizer("demo").vocab_size() + kPadding,
      end_of_text(test_tokenizer("demo")));
  return grammar;
}

std::vector<uint32_t> mask_for(const Grammar& grammar) {
  // Filled with ones, so that a bit that should be cleared is seen.
  return std::vector<uint32_t>((grammar.vocab_size() + 31) / 32, ~0u);
}

std::vector<TokenId> allowed_ids(
    GrammarMatcher& matcher,
    std::vector<uint32_t>& mask) {
  const size_t count = matcher.allowed(mask);
  std::vector<TokenId> ids;
  for (size_t id = 0; id < mask.size() * 32; ++id) {
    if (mask[id / 32] >> (id % 32) & 1) {
      ids.push_back(static_cast<TokenId>(id));
    }
  }
  CHECK(ids.size() == count);
  return ids;
}

// A random text of the grammar, or nothing when it is not complete after
// `max_tokens`.
std::optional<std::string>
random_text(GrammarKind kind, std::string_view source, Rng& rng) {
  constexpr int kMaxTokens = 400;
  const Tokenizer& tokenizer = test_tokenizer("demo");
  const TokenId eos = end_of_text(tokenizer);
  GrammarMatcher matcher(demo_grammar(), kind, source);
  Detokenizer detokenizer(tokenizer);
  auto mask = mask_for(demo_grammar());
  std::string text;
  for (int i = 0; i < kMaxTokens; ++i) {
    const auto ids = allowed_ids(matcher, mask);
    REQUIRE(!ids.empty());
    CHECK(ids.back() < tokenizer.vocab_size());
    const TokenId id = ids[rng.below(ids.size())];
    const bool complete = matcher.commit(id);
    if (id == eos) {
      return text + detokenizer.flush();
    }
    text += detokenizer.push(id);
    if (complete) {
      return text + detokenizer.flush();
    }
  }
  return std::nullopt;
}

} // namespace

TEST_CASE("grammar: random allowed tokens always make JSON of the schema") {
  const std::string schema = R"({
      "type": "object",
      "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "maxItems": 3,
                 "items": {"enum": ["alpha", "beta", "gamma"]}}
      },
      "required": ["name", "age", "tags"],
      "additionalProperties": false})";
  const uint64_t seed = 3;
  CAPTURE(seed);
  Rng rng(seed);
  int complete = 0;
  for (int round = 0; round < 40; ++round) {
    const auto text = random_text(GrammarKind::json_schema, schema, rng);
    if (!text) {
      continue;
    }
    ++complete;
    CAPTURE(*text);
    const json value = json::parse(*text, nullptr, false);
    REQUIRE(value.is_object());
    CHECK(value.size() == 3);
    CHECK(value["name"].is_string());
    REQUIRE(value["age"].is_number_integer());
    CHECK(value["age"].get<int>() >= 0);
    CHECK(value["age"].get<int>() <= 150);
    REQUIRE(value["tags"].is_array());
    CHECK(value["tags"].size() <= 3);
    for (const json& tag : value["tags"]) {
      CHECK((tag == "alpha" || tag == "beta" || tag == "gamma"));
    }
  }
  // White space may go on for long, but not always.
  CHECK(complete > 20);
}

TEST_CASE("grammar: a regular expression and a Lark grammar hold") {
  const uint64_t seed = 4;
  CAPTURE(seed);
  Rng rng(seed);
  for (int round = 0; round < 20; ++round) {
    const auto number = random_text(GrammarKind::regex, "[1-9][0-9]{2}", rng);
    REQUIRE(number);
    CHECK(number->size() == 3);
    CHECK(std::stoi(*number) >= 100);
    const auto call = random_text(
        GrammarKind::lark, "start: \"<\" (\"a\" | \"bc\") \">\"", rng);
    CHECK((call == "<a>" || call == "<bc>"));
  }
}

TEST_CASE("grammar: a character of several tokens can be written") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  GrammarMatcher matcher(demo_grammar(), GrammarKind::regex, "\U0001FAE0");
  auto mask = mask_for(demo_grammar());
  const auto ids = tokenizer.encode("\U0001FAE0", false);
  REQUIRE(ids.size() > 1);
  for (TokenId id : ids) {
    matcher.allowed(mask);
    CHECK((mask[id / 32] >> (id % 32) & 1));
    matcher.commit(id);
  }
}

TEST_CASE("grammar: matchers of one grammar do not disturb each other") {
  GrammarMatcher a(demo_grammar(), GrammarKind::regex, "aaa");
  GrammarMatcher b(demo_grammar(), GrammarKind::regex, "b");
  auto mask = mask_for(demo_grammar());
  const auto before = allowed_ids(b, mask);
  a.commit(test_tokenizer("demo").encode("a", false)[0]);
  CHECK(allowed_ids(b, mask) == before);
}

TEST_CASE("grammar: bad grammars and tokens are errors") {
  const auto matcher = [&](GrammarKind kind, const char* source) {
    GrammarMatcher made(demo_grammar(), kind, source);
  };
  CHECK_THROWS_AS(matcher(GrammarKind::json_schema, "{"), Error);
  CHECK_THROWS_AS(
      matcher(GrammarKind::json_schema, R"({"type": "nonsense"})"), Error);
  CHECK_THROWS_AS(matcher(GrammarKind::regex, "(("), Error);
  CHECK_THROWS_AS(matcher(GrammarKind::lark, "start: missing"), Error);
  const std::string deep = std::string(100000, '(') + std::string(100000, ')');
  CHECK_THROWS_AS(matcher(GrammarKind::regex, deep.c_str()), Error);

  GrammarMatcher only_a(demo_grammar(), GrammarKind::regex, "a");
  const TokenId b = test_tokenizer("demo").encode("b", false)[0];
  CHECK_THROWS_AS(only_a.commit(b), Error);
  std::vector<uint32_t> short_mask(1);
  CHECK_THROWS_AS(only_a.allowed(short_mask), Error);
}

TEST_CASE("grammar: a tokenizer without a byte view is refused") {
  const std::string file =
      R"({"model": {"type": "BPE", "merges": [], "vocab": {"a": 0, "b": 1}}})";
  const Tokenizer tokenizer = Tokenizer::from_json(file, "a test");
  try {
    const Grammar grammar(tokenizer, 2, 1);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported);
  }
}

TEST_CASE("grammar: compiling one costs no more than it may") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  GrammarLimits limits;
  limits.compile_cost = 1000;
  const Grammar grammar(
      tokenizer, tokenizer.vocab_size(), end_of_text(tokenizer), limits);
  std::string large;
  for (int i = 0; i < 300; ++i) {
    large += (i > 0 ? "|word" : "word") + std::to_string(i * 7919);
  }
  CHECK_THROWS_AS(GrammarMatcher(grammar, GrammarKind::regex, large), Error);
  CHECK_NOTHROW(GrammarMatcher(grammar, GrammarKind::regex, "[a-z]{1,5}"));
  CHECK_NOTHROW(GrammarMatcher(demo_grammar(), GrammarKind::regex, large));
}

// Names of three letters, each of which says how the next one is said.
template <typename Say>
std::string chain(int links, Say say) {
  const auto name = [](int i) {
    return std::string{
        static_cast<char>('a' + i / 26 / 26),
        static_cast<char>('a' + i / 26 % 26),
        static_cast<char>('a' + i % 26)};
  };
  std::string text;
  for (int i = 0; i < links; ++i) {
    text += say(name(i), name(i + 1));
  }
  return text;
}

std::string rules_in_rules(int links, const std::string& begin) {
  const std::string end(begin.size(), ')');
  std::string last;
  const std::string rules =
      chain(links, [&](const std::string& name, const std::string& next) {
        last = next;
        return name + ": " + begin + next + end + "\n";
      });
  return "start: aaa\n" + rules + last + ": \"x\"\n";
}

// Each definition refers to the next one from within `depth` arrays.
std::string references(int links, int depth) {
  std::string begin;
  for (int i = 0; i < depth; ++i) {
    begin += R"({"items":)";
  }
  const std::string end(static_cast<size_t>(depth), '}');
  std::string all = R"({"$ref":"#/$defs/aaa","$defs":{)";
  std::string last;
  all += chain(links, [&](const std::string& name, const std::string& next) {
    last = next;
    return '"' + name + "\":" + begin + R"({"$ref":"#/$defs/)" + next + "\"}" +
        end + ",";
  });
  return all + '"' + last + R"(":{}}})";
}

TEST_CASE("grammar: recursion along rules and references has an end") {
  const auto matcher = [](GrammarKind kind, const std::string& source) {
    GrammarMatcher made(demo_grammar(), kind, source);
  };
  CHECK_NOTHROW(matcher(GrammarKind::lark, rules_in_rules(9900, "")));
  CHECK_NOTHROW(matcher(GrammarKind::lark, rules_in_rules(1100, "((((((((")));
  CHECK_THROWS_AS(matcher(GrammarKind::lark, rules_in_rules(17000, "")), Error);
  CHECK_THROWS_AS(
      matcher(GrammarKind::lark, rules_in_rules(1200, "((((((((")), Error);

  // What is quoted leads nowhere, and may be as much as one likes.
  const std::string quoted = "start: \"" + std::string(20000, '(') + "\" /[" +
      std::string(20000, ':') + "]/ // " + std::string(20000, '[') + "\n";
  CHECK_NOTHROW(matcher(GrammarKind::lark, quoted));

  CHECK_NOTHROW(matcher(GrammarKind::json_schema, references(250, 14)));
  CHECK_THROWS_AS(
      matcher(GrammarKind::json_schema, references(1000, 0)), Error);
  CHECK_THROWS_AS(
      matcher(GrammarKind::json_schema, references(200, 60)), Error);
  CHECK_THROWS_AS(
      matcher(GrammarKind::lark, "start: %json " + references(200, 60)), Error);
}

TEST_CASE("grammar: few patterns of properties are compared with each other") {
  const auto schema = [](int patterns) {
    std::string all = R"({"type":"object","patternProperties":{)";
    all += chain(patterns, [](const std::string& name, const std::string&) {
      return "\"^" + name + R"($":{"type":"null"},)";
    });
    all.back() = '}';
    return all + "}";
  };
  const auto matcher = [](GrammarKind kind, const std::string& source) {
    GrammarMatcher made(demo_grammar(), kind, source);
  };
  CHECK_NOTHROW(matcher(GrammarKind::json_schema, schema(8)));
  CHECK_THROWS_AS(matcher(GrammarKind::json_schema, schema(9)), Error);
  // The limit is a schema's, not a grammar's.
  CHECK_NOTHROW(matcher(
      GrammarKind::lark,
      "start: %json " + schema(8) + " | \"x\" %json " + schema(8)));
  CHECK_THROWS_AS(
      matcher(GrammarKind::lark, "start: %json {} | %json " + schema(9)),
      Error);
}

// Each "q" may be any of the rules.
std::string ambiguous_grammar(int count) {
  std::string start = "start: (";
  std::string rules;
  for (int i = 0; i < count; ++i) {
    start += fmt::format("{}r{}", i > 0 ? "|" : "", i);
    rules += fmt::format("r{}: \"q\"\n", i);
  }
  return start + ")*\n" + rules;
}

// How many times "q" is taken before that fails as it should.
int count_taken(GrammarMatcher& matcher, int most, ErrorCode expected) {
  const TokenId q = *test_tokenizer("demo").find("q");
  for (int i = 0; i < most; ++i) {
    try {
      matcher.commit(q);
    } catch (const Error& error) {
      CHECK(error.code() == expected);
      return i;
    }
  }
  return most;
}

TEST_CASE("grammar: matchers hold no more memory than there is for all") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  GrammarLimits limits;
  limits.matcher_bytes = 300'000;
  limits.shared_bytes = 1'200'000;
  const Grammar grammar(
      tokenizer, tokenizer.vocab_size(), end_of_text(tokenizer), limits);
  const std::string source = ambiguous_grammar(500);
  const auto make = [&] {
    return GrammarMatcher(grammar, GrammarKind::lark, source);
  };

  // It holds some 8 KB more with each of them.
  constexpr int kMany = 400;
  constexpr auto kTooMuch = ErrorCode::invalid_argument;
  constexpr auto kNotNow = ErrorCode::out_of_budget;
  std::optional first(make());
  const int alone = count_taken(*first, kMany, kTooMuch);
  CHECK(alone > 20);
  CHECK(alone < 200);

  // What is shared is gone, so the next one has but its own,
  GrammarMatcher second = make();
  CHECK(count_taken(second, kMany, kNotNow) < alone / 2);
  // which is enough for a usual one.
  GrammarMatcher usual(grammar, GrammarKind::regex, "[a-z]{1,9}");
  CHECK(count_taken(usual, 9, kNotNow) == 9);

  // Memory that one leaves is there for others.
  first.reset();
  GrammarMatcher third = make();
  CHECK(count_taken(third, kMany, kTooMuch) > alone / 2);
}

TEST_CASE("grammar: one that no memory is enough for is refused at once") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  GrammarLimits limits;
  limits.matcher_bytes = 200'000;
  limits.shared_bytes = 200'000;
  const Grammar grammar(
      tokenizer, tokenizer.vocab_size(), end_of_text(tokenizer), limits);
  const std::string large = ambiguous_grammar(2000);
  CHECK_THROWS_AS(grammar.check(GrammarKind::lark, large), Error);
  CHECK_THROWS_AS(GrammarMatcher(grammar, GrammarKind::lark, large), Error);
  CHECK_NOTHROW(grammar.check(GrammarKind::regex, "[a-z]{1,9}"));
  CHECK_NOTHROW(demo_grammar().check(GrammarKind::lark, large));
}

TEST_CASE("grammar: byte tokens spell what no piece has") {
  const Tokenizer& tokenizer = sentence_piece_tokenizer();
  const Grammar grammar(
      tokenizer, tokenizer.vocab_size(), *tokenizer.find("<s>"));
  GrammarMatcher matcher(grammar, GrammarKind::regex, " a漢");
  for (const char* piece : {"▁a", "<0xE6>", "<0xBC>", "<0xA2>"}) {
    CAPTURE(piece);
    auto mask = mask_for(grammar);
    matcher.allowed(mask);
    const TokenId id = *tokenizer.find(piece);
    CHECK((mask[id / 32] >> (id % 32) & 1));
    matcher.commit(id);
  }
}

} // namespace mlx_flash
