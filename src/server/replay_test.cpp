#include "server/replay.h"

#include <doctest/doctest.h>

#include <thread>

#include "base/rng.h"
#include "server/test_scripted_text.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Ids = std::vector<TokenId>;

// Tokens that no tokenizer makes, to be told from those that one does.
constexpr TokenId kPromptToken = 1000;
constexpr TokenId kAnswerToken = 2000;

struct Fixture {
  explicit Fixture(size_t answers = 100, size_t bytes = 1 << 20)
      : replay(answers, bytes) {}

  Ids encode(const std::string& prompt, const std::string& model = "m") {
    return replay.encode(model, text, prompt, {form, tools});
  }
  // Remembers an answer of so many tokens of its own.
  void store(
      const std::string& prompt,
      const std::string& answer,
      TokenId mark = 0,
      size_t tokens = 1,
      const std::string& model = "m") {
    replay.store(
        model,
        prompt,
        {kPromptToken + mark},
        answer,
        Ids(tokens, kAnswerToken + mark),
        "<|im_end|>");
  }
  Ids plain(const std::string& what) const {
    return text.encode(what, false);
  }
  Ids replayed(TokenId mark, const std::string& rest) const {
    Ids ids{kPromptToken + mark, kAnswerToken + mark};
    const Ids more = plain(rest);
    ids.insert(ids.end(), more.begin(), more.end());
    return ids;
  }

  const ScriptedText text;
  const parse::AnswerForm form =
      parse::find_answer_form(text.template_source());
  const std::vector<parse::ToolSignature> tools{{"f", ""}};
  Replay replay;
};

} // namespace

TEST_CASE("replay: without anything stored a prompt is encoded as it is") {
  Fixture f;
  CHECK(f.encode("Q: A<|im_end|>") == f.plain("Q: A<|im_end|>"));
}

TEST_CASE("replay: what goes on behind a known answer has that one's tokens") {
  Fixture f;
  f.store("Q:", "answer");
  CHECK(f.encode("Q:answer<|im_end|>more") == f.replayed(0, "<|im_end|>more"));
  CHECK(f.encode("Q:answer<|im_end|>") == f.replayed(0, "<|im_end|>"));
}

TEST_CASE("replay: it is the same answer if it says the same") {
  Fixture f;
  f.store(
      "Q:",
      "<think>\nHm.\n</think>\n\nYes.\n<tool_call>\n"
      "{\"name\": \"f\", \"arguments\": {\"a\":1,  \"b\": [2]}}\n</tool_call>");
  const auto sent_back = [&](const std::string& answer) {
    return f.encode("Q:" + answer + "<|im_end|>") ==
        f.replayed(0, "<|im_end|>");
  };
  const auto call = [](const std::string& arguments) {
    return "\n<tool_call>\n{\"name\": \"f\", \"arguments\": " + arguments +
        "}\n</tool_call>";
  };
  const std::string thought = "<think>\nHm.\n</think>\n\nYes.";
  CHECK(sent_back(thought + call(R"({"a": 1, "b": [2]})")));
  CHECK(sent_back(thought + call(R"({"b": [2], "a": 1})")));
  CHECK(sent_back("<think>Hm.</think>Yes." + call(R"({"a": 1, "b": [2]})")));
  CHECK(!sent_back(thought + call(R"({"a": 2, "b": [2]})")));
  CHECK(!sent_back(thought));
  CHECK(!sent_back("Yes." + call(R"({"a": 1, "b": [2]})"))); // as shortened
  CHECK(!sent_back(
      "<think>\nHm.\n</think>\n\nNo." + call(R"({"a": 1, "b": [2]})")));
}

TEST_CASE("replay: an answer that does not end is another one") {
  Fixture f;
  f.store("Q:", "answer");
  CHECK(f.encode("Q:answer") == f.plain("Q:answer"));
  CHECK(f.encode("Q:answer<|im_start|>") == f.plain("Q:answer<|im_start|>"));
}

TEST_CASE("replay: prompts that are known are not encoded again") {
  Fixture f;
  f.store("Q:", "answer");
  CHECK(f.encode("Q:") == Ids{kPromptToken});
}

TEST_CASE("replay: other prompts and other models are not touched") {
  Fixture f;
  f.store("Q:", "answer");
  CHECK(f.encode("q:answer<|im_end|>") == f.plain("q:answer<|im_end|>"));
  CHECK(f.encode("Q") == f.plain("Q"));
  CHECK(
      f.encode("Q:answer<|im_end|>", "other") == f.plain("Q:answer<|im_end|>"));
  // A name and a text do not become one another.
  f.store("x:", "answer", 1, 1, "m");
  CHECK(f.encode("x:answer<|im_end|>", "mx") == f.plain("x:answer<|im_end|>"));
}

TEST_CASE("replay: the longest prompt of which the answer is repeated counts") {
  Fixture f;
  const std::string turn = "<|im_end|>Q2:";
  f.store("Q1:", "one", 1);
  f.store("Q1:one" + turn, "two", 2);
  CHECK(
      f.encode("Q1:one" + turn + "two<|im_end|>Q3:") ==
      f.replayed(2, "<|im_end|>Q3:"));
  // The last answer was edited: what was before it is still the same.
  CHECK(
      f.encode("Q1:one" + turn + "2<|im_end|>Q3:") ==
      f.replayed(1, turn + "2<|im_end|>Q3:"));
  // Both were.
  CHECK(
      f.encode("Q1:1" + turn + "2<|im_end|>") ==
      f.plain("Q1:1" + turn + "2<|im_end|>"));
}

TEST_CASE("replay: one of several answers to a prompt is the one sent back") {
  Fixture f;
  f.store("Q:", "one", 1);
  f.store("Q:", "two", 2);
  f.store("Q:", "three", 3);
  CHECK(f.encode("Q:one<|im_end|>") == f.replayed(1, "<|im_end|>"));
  CHECK(f.encode("Q:two<|im_end|>") == f.replayed(2, "<|im_end|>"));
  CHECK(f.encode("Q:three<|im_end|>") == f.replayed(3, "<|im_end|>"));
}

TEST_CASE("replay: an answer may begin inside reasoning") {
  Fixture f;
  f.store("Q:<think>\n", "Hm.\n</think>\n\nYes.");
  CHECK(
      f.encode("Q:<think>\nHm.</think>Yes.<|im_end|>") ==
      f.replayed(0, "<|im_end|>"));
}

TEST_CASE("replay: answers without an end are not found, and do no harm") {
  Fixture f;
  f.replay.store("m", "Q:", {1}, "answer", {2}, "");
  CHECK(f.encode("Q:answer<|im_end|>") == f.plain("Q:answer<|im_end|>"));
}

TEST_CASE("replay: the least recently used goes when there are too many") {
  Fixture f(2);
  f.store("1:", "a", 1);
  f.store("2:", "a", 2);
  f.encode("1:a<|im_end|>"); // so 2 is older
  f.store("3:", "a", 3);
  CHECK(f.replay.size() == 2);
  CHECK(f.encode("2:a<|im_end|>") == f.plain("2:a<|im_end|>"));
  CHECK(f.encode("1:a<|im_end|>") == f.replayed(1, "<|im_end|>"));
  CHECK(f.encode("3:a<|im_end|>") == f.replayed(3, "<|im_end|>"));
}

TEST_CASE("replay: takes no more bytes than it may") {
  Fixture f(1000, 10000);
  for (TokenId i = 0; i < 50; ++i) {
    f.store(std::to_string(i) + ":", "a", i, 200);
    CHECK(f.replay.bytes() <= 10000);
  }
  CHECK(f.replay.size() > 5);
  CHECK(f.replay.size() < 13);
  f.store("large:", "a", 99, 100000); // more than all
  CHECK(f.replay.size() == 0);
  CHECK(f.replay.bytes() == 0);
}

TEST_CASE("replay: a conversation of many turns is replayed turn by turn") {
  const uint64_t seed = 7;
  CAPTURE(seed);
  Rng random(seed);
  Fixture f;
  std::string prompt = "<|im_start|>assistant\n";
  Ids expected = f.plain(prompt);
  for (TokenId turn = 0; turn < 30; ++turn) {
    CHECK(f.encode(prompt) == expected);
    // Each is stored with tokens of its own.
    const std::string answer = "answer " + std::to_string(random.below(10));
    f.replay.store("m", prompt, expected, answer, {3000 + turn}, "<|im_end|>");
    const std::string next = "<|im_end|>\n<|im_start|>user\nmore" +
        std::string(random.below(500), 'x') +
        "<|im_end|>\n<|im_start|>assistant\n";
    prompt += answer + next;
    expected.push_back(3000 + turn);
    const Ids more = f.plain(next);
    expected.insert(expected.end(), more.begin(), more.end());
  }
}

TEST_CASE("replay: many threads may ask and store") {
  Fixture f(20);
  std::vector<std::thread> threads;
  for (TokenId t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (TokenId i = 0; i < 200; ++i) {
        const std::string prompt = std::to_string(i % 30) + ":";
        f.store(prompt, "a", t);
        f.encode(prompt + "a<|im_end|>more");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(f.replay.size() == 20);
}
