// What a whole job's answers are is in generation_answers_test.cpp.
#include "server/answer.h"

#include <doctest/doctest.h>

#include "server/test_scripted_text.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

// Counts the tokens that are described.
class CountingText : public ScriptedText {
 public:
  std::string bytes(TokenId id) const override {
    ++described;
    return ScriptedText::bytes(id);
  }
  mutable size_t described = 0;
};

const parse::ToolForm* form_named(std::string_view name) {
  for (const parse::ToolForm* form : parse::tool_forms()) {
    if (form->name() == name) {
      return form;
    }
  }
  FAIL("no such form");
  return nullptr;
}

// With log-probabilities, and calls as XML.
class Fixture {
 public:
  Fixture() : answer_(setup()) {}

  // One token for each byte.
  void push(std::string_view bytes) {
    for (const char byte : bytes) {
      const ChosenToken token{static_cast<uint8_t>(byte), -1, {}};
      for (AnswerPart& part : answer_.push({&byte, 1}, {&token, 1})) {
        parts.push_back(std::move(part));
      }
    }
  }

  CountingText text;
  std::vector<AnswerPart> parts;

 private:
  Answer::Setup setup() {
    Prompt prompt;
    prompt.is_conversation = true;
    prompt.form.tools = form_named("qwen-xml");
    prompt.tools = {{"f", R"({"properties": {"a": {"type": "array"}}})"}};
    return {std::make_shared<const Prompt>(prompt), true, &text, 0};
  }

  Answer answer_;
};

std::string content_of(const std::vector<AnswerPart>& parts) {
  std::string bytes;
  for (const AnswerPart& part : parts) {
    const bool content = part.kind == AnswerPart::Kind::content;
    CHECK((content || part.tokens.empty()));
    for (const TokenText& token : part.tokens) {
      bytes += token.bytes;
    }
  }
  return bytes;
}

} // namespace

TEST_CASE("answer: the tokens of a call's arguments are not kept") {
  Fixture f;
  f.push("Yes.\n<tool_call>\n<function=f>\n");
  const size_t before = f.text.described;
  f.push("<parameter=a>\n[" + std::string(1000, '1') + "]\n</parameter>\n");
  // Nor those behind what breaks the call off, which nobody hears of.
  f.push("<parameter=>" + std::string(1000, '2') + "\n</tool_call>");
  CHECK(f.text.described == before);
  CHECK(content_of(f.parts) == "Yes.");
  f.push("\nDone 11.");
  CHECK(content_of(f.parts) == "Yes.\nDone 11.");
}

TEST_CASE("answer: the tokens of what is no call after all are kept") {
  Fixture f;
  f.push("<tool_call>\n<function!");
  CHECK(content_of(f.parts) == "<tool_call>\n<function!");
}
