#include "text/detokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rng.h"
#include "text/test_tokenizers.h"

namespace mlx_flash {

namespace {

bool is_utf8(const std::string& text) {
  // nlohmann-json refuses to write what is not.
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

// Random ids, of which some come from real text so that whole characters and
// words occur as well as shards of them.
std::vector<TokenId>
random_ids(const Tokenizer& tokenizer, size_t count, Rng& rng) {
  const auto real =
      tokenizer.encode("Der Fuß, 你好 🌍🤗 naïve\n\n  x=1;", false);
  std::vector<TokenId> ids;
  while (ids.size() < count) {
    if (rng.below(4) == 0) {
      const size_t begin = rng.below(real.size());
      ids.insert(ids.end(), real.begin() + begin, real.end());
    } else {
      ids.push_back(static_cast<TokenId>(rng.below(tokenizer.vocab_size())));
    }
  }
  return ids;
}

void check_streams_equal_decode(const Tokenizer& tokenizer, uint64_t seed) {
  CAPTURE(seed);
  Rng rng(seed);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const bool skip_special = rng.below(2) == 0;
    const auto ids = random_ids(tokenizer, rng.below(40), rng);
    Detokenizer detokenizer(tokenizer, skip_special);
    std::string text;
    bool whole_characters = true;
    for (TokenId id : ids) {
      const std::string piece = detokenizer.push(id);
      whole_characters = whole_characters && is_utf8(piece);
      text += piece;
    }
    text += detokenizer.flush();
    CHECK(whole_characters);
    CHECK(text == tokenizer.decode(ids, skip_special));
  }
}

} // namespace

TEST_CASE("detokenizer: joined pieces equal decode of all the ids") {
  for (const char* name :
       {"demo",
        "qwen3",
        "gpt2",
        "gpt-neox-olmo",
        "dolma2",
        "deepseek-v3",
        "gpt-oss"}) {
    CAPTURE(name);
    check_streams_equal_decode(test_tokenizer(name), 1);
  }
  check_streams_equal_decode(sentence_piece_tokenizer(), 2);
}

TEST_CASE("detokenizer: half a character waits for its other half") {
  const Tokenizer& tokenizer = test_tokenizer("qwen3");
  Detokenizer detokenizer(tokenizer);
  std::string text;
  int waits = 0;
  for (TokenId id : tokenizer.encode("\U0001FAE0", false)) {
    const std::string piece = detokenizer.push(id);
    waits += piece.empty();
    text += piece;
  }
  CHECK(waits > 0);
  CHECK(text == "\U0001FAE0");
  CHECK(detokenizer.flush() == "");
}

TEST_CASE("detokenizer: what is incomplete at the end becomes U+FFFD") {
  const Tokenizer& tokenizer = test_tokenizer("qwen3");
  Detokenizer detokenizer(tokenizer);
  CHECK(detokenizer.push(tokenizer.encode("\U0001FAE0", false)[0]) == "");
  CHECK(detokenizer.flush() == "\uFFFD");
  // And a new text begins.
  CHECK(detokenizer.push(tokenizer.encode("a", false)[0]) == "a");
}

TEST_CASE("detokenizer: a run of byte tokens is certain only at its end") {
  const Tokenizer& tokenizer = sentence_piece_tokenizer();
  const auto id = [&](const char* piece) { return *tokenizer.find(piece); };
  Detokenizer detokenizer(tokenizer);
  // Whole characters, but one more byte could make all of them U+FFFD.
  CHECK(detokenizer.push(id("<0xC3>")) == "");
  CHECK(detokenizer.push(id("<0xA9>")) == "");
  CHECK(detokenizer.push(id("a")) == "éa");
  CHECK(detokenizer.push(id("<0x41>")) == "");
  CHECK(detokenizer.push(id("<0xFF>")) == "\uFFFD\uFFFD");
  CHECK(detokenizer.flush() == "");
}

TEST_CASE("detokenizer: the first word's space is stripped, no other") {
  const Tokenizer& tokenizer = sentence_piece_tokenizer();
  const TokenId word = *tokenizer.find("▁a");
  Detokenizer detokenizer(tokenizer);
  CHECK(detokenizer.push(*tokenizer.find("<s>")) == "");
  CHECK(detokenizer.push(word) == "a");
  CHECK(detokenizer.push(word) == " a");
}

TEST_CASE("detokenizer: special tokens are written when asked for") {
  const Tokenizer& tokenizer = test_tokenizer("qwen3");
  const TokenId mark = *tokenizer.find("<|im_end|>");
  CHECK(Detokenizer(tokenizer, true).push(mark) == "");
  CHECK(Detokenizer(tokenizer, false).push(mark) == "<|im_end|>");
}

TEST_CASE("detokenizer: an id outside the vocabulary is an error") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  Detokenizer detokenizer(tokenizer);
  const auto beyond = static_cast<TokenId>(tokenizer.vocab_size());
  CHECK_THROWS_AS(detokenizer.push(beyond), Error);
  // The stream goes on.
  CHECK(detokenizer.push(tokenizer.encode("a", false)[0]) == "a");
}

} // namespace mlx_flash
