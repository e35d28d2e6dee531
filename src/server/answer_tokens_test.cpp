#include "server/answer_tokens.h"

#include <doctest/doctest.h>

#include "base/rng.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

std::vector<TokenText> tokens(std::initializer_list<const char*> texts) {
  std::vector<TokenText> result;
  for (const char* each : texts) {
    result.push_back({0, each, 0, {}});
  }
  return result;
}

std::string joined(const std::vector<TokenText>& taken) {
  std::string text;
  for (const TokenText& each : taken) {
    text += "[" + each.bytes + "]";
  }
  return text;
}

AnswerTokens with_marks() {
  return AnswerTokens({"<think>", "</think>", "", "<tool_call>"});
}

} // namespace

TEST_CASE("answer tokens: are those of the text that is told") {
  AnswerTokens all = with_marks();
  all.push("Hel", tokens({"Hel"}));
  all.push("lo", tokens({"lo"}));
  CHECK(joined(all.take("Hello")) == "[Hel][lo]");
  CHECK(joined(all.take_all()).empty());
}

TEST_CASE("answer tokens: one that is cut belongs to the first part it is in") {
  AnswerTokens all = with_marks();
  all.push("Hello", tokens({"Hello"}));
  CHECK(joined(all.take("Hel")) == "[Hello]");
  CHECK(joined(all.take("lo")).empty());
  all.push("!", tokens({"!"}));
  CHECK(joined(all.take("!")) == "[!]");
}

TEST_CASE("answer tokens: marks and blanks before a part are not its own") {
  AnswerTokens all = with_marks();
  all.push("a", tokens({"a"}));
  all.push("\n", tokens({"\n"}));
  all.push("</think>", tokens({"</think>"}));
  all.push("\n\n", tokens({"\n\n"}));
  all.push("th", tokens({"th"})); // which is in the mark too
  CHECK(joined(all.take("a")) == "[a]");
  CHECK(joined(all.take("th")) == "[th]");
}

TEST_CASE("answer tokens: marks that are told as text are text") {
  AnswerTokens all = with_marks();
  all.push("<think>", tokens({"<think>"}));
  all.push("a", tokens({"a"}));
  CHECK(joined(all.take("<think>a")) == "[<think>][a]");
}

TEST_CASE("answer tokens: those that come before their text wait for it") {
  AnswerTokens all = with_marks();
  all.push("", tokens({"\xC3"}));
  all.push("\xC3\xA9", tokens({"\xA9"}));
  all.push("x", tokens({"x"}));
  CHECK(joined(all.take("\xC3\xA9")) == "[\xC3][\xA9]");
  CHECK(joined(all.take("x")) == "[x]");
}

TEST_CASE("answer tokens: text that was held back has none left") {
  AnswerTokens all = with_marks();
  all.push("a", tokens({"aE"}));
  all.push("E", {});
  CHECK(joined(all.take("aE")) == "[aE]");
}

TEST_CASE("answer tokens: text that is written otherwise has all there are") {
  AnswerTokens all = with_marks();
  all.push("<tool_call>", tokens({"<tool_call>"}));
  all.push("<name=f>", tokens({"<name", "=f>"}));
  CHECK(joined(all.take("{\"x\"")) == "[<tool_call>][<name][=f>]");
  all.push("more", tokens({"more"}));
  CHECK(joined(all.take("more")) == "[more]");
}

TEST_CASE("answer tokens: behind text that nobody told of, it is found again") {
  AnswerTokens all = with_marks();
  all.push("}\n</tool_call>\n", tokens({"}\n</tool_call>\n"}));
  all.push("Done", tokens({"Done"}));
  CHECK(joined(all.take("Done")) == "[Done]");
}

TEST_CASE("answer tokens: however text is cut, each token is told once") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng random(seed);
  for (int round = 0; round < 200; ++round) {
    AnswerTokens all({});
    std::string text;
    std::string expected;
    for (int i = 0; i < 30; ++i) {
      std::string piece;
      for (uint64_t n = 1 + random.below(4); n > 0; --n) {
        piece += static_cast<char>('a' + random.below(3));
      }
      all.push(piece, tokens({piece.c_str()}));
      text += piece;
      expected += "[" + piece + "]";
    }
    std::string got;
    while (!text.empty()) {
      const size_t n = std::min<size_t>(1 + random.below(9), text.size());
      got += joined(all.take(text.substr(0, n)));
      text.erase(0, n);
    }
    CHECK(got == expected);
  }
}
