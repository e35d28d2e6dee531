#include "parse/answer_parser.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "parse/test_answers.h"

namespace mlx_flash::parse {

namespace {

const ToolForm* form_named(std::string_view name) {
  for (const ToolForm* form : tool_forms()) {
    if (form->name() == name) {
      return form;
    }
  }
  FAIL("no such form");
  return nullptr;
}

AnswerForm thinking(const ToolForm* tools = nullptr) {
  return {"<think>", "</think>", tools};
}

const std::vector<ToolSignature> kTools = {
    {"f",
     R"({"type": "object", "properties": {"a": {"type": "string"},
         "n": {"type": "integer"}}})"},
    {"g", ""}};

std::string events(std::string_view text, bool in_reasoning = false) {
  static const AnswerForm form = thinking(form_named("qwen-json"));
  const std::string whole = events_of(form, kTools, in_reasoning, {text});
  CHECK(whole == events_of(form, kTools, in_reasoning, single_bytes(text)));
  return whole;
}

const std::string kCall =
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}\n</tool_call>";
const std::string kCallEvents = "call f A<{\"a\": \"x\"}> end ";

} // namespace

TEST_CASE("answer parser: text without marks is content, as it is") {
  CHECK(events("Hello\n\n world.\n") == "C<Hello\n\n world.\n> ");
  CHECK(events("\n\n  x") == "C<\n\n  x> ");
  CHECK(events("") == "");
  CHECK(
      events("a < b <t <think <tool <tool_calls> </tool_call>") ==
      "C<a < b <t <think <tool <tool_calls> </tool_call>> ");
}

TEST_CASE("answer parser: reasoning is told apart, without line ends around") {
  CHECK(
      events("<think>\nHm.\nYes.\n</think>\n\nHello") ==
      "R<Hm.\nYes.> C<Hello> ");
  CHECK(events("<think>\n\n</think>\n\nHello") == "C<Hello> ");
  CHECK(events("<think>x</think>\n\n  code") == "R<x> C<  code> ");
  CHECK(events("<think>a < b </thin </think>c") == "R<a < b </thin> C<c> ");
  CHECK(events("<think>" + kCall + "</think>b") == "R<" + kCall + "> C<b> ");
}

TEST_CASE("answer parser: reasoning that the template has opened") {
  CHECK(events("Hm.\n</think>\n\nHello", true) == "R<Hm.> C<Hello> ");
  CHECK(events("\n</think>Hello", true) == "C<Hello> ");
  CHECK(events("<think>\nHm.</think>Hello", true) == "R<Hm.> C<Hello> ");
  CHECK(events("Hm", true) == "R<Hm> ");
  const AnswerForm plain{"", "", form_named("qwen-json")};
  CHECK(events_of(plain, kTools, true, {"a</think>"}) == "C<a</think>> ");
}

TEST_CASE("answer parser: reasoning only comes first") {
  CHECK(events("\n <think>\nHm.\n</think>\nYes.") == "R<Hm.> C<Yes.> ");
  CHECK(events("<think>a</think><think>b</think>c") == "R<ab> C<c> ");
  const std::string shown = "Write:\n<think>\nHm.\n</think>\nYes.";
  CHECK(events(shown) == "C<" + shown + "> ");
  CHECK(
      events("<think>a</think>" + shown + kCall + "\n<think>") ==
      "R<a> C<" + shown + "> " + kCallEvents + "C<\n<think>> ");
  CHECK(
      events(kCall + "\n<think>b</think>") ==
      kCallEvents + "C<<think>b</think>> ");
  CHECK(events("Write <think> first.") == "C<Write <think> first.> ");
  CHECK(events("a</think>b") == "C<a</think>b> ");
}

TEST_CASE("answer parser: without marks of reasoning they are content") {
  const AnswerForm plain{"", "", form_named("qwen-json")};
  const std::string text = "<think>\nHm.\n</think>\n\nYes.";
  CHECK(events_of(plain, kTools, false, {text}) == "C<" + text + "> ");
}

TEST_CASE("answer parser: calls before, between and behind content") {
  CHECK(events(kCall) == kCallEvents);
  CHECK(events("\n" + kCall + "\n") == kCallEvents);
  CHECK(events("Let me.\n\n" + kCall) == "C<Let me.> " + kCallEvents);
  CHECK(events(kCall + "\n" + kCall) == kCallEvents + kCallEvents);
  CHECK(
      events(kCall + kCall + "\nDone.\n" + kCall) ==
      kCallEvents + kCallEvents + "C<Done.> " + kCallEvents);
  CHECK(events("<think>\nHm\n</think>\n\n" + kCall) == "R<Hm> " + kCallEvents);
  CHECK(
      events("Hm</think>" + kCall + "\nDone.", true) ==
      "R<Hm> " + kCallEvents + "C<Done.> ");
}

TEST_CASE("answer parser: what separates contents around calls is content") {
  CHECK(
      events("One.\n\n" + kCall + "\n  Two.\n" + kCall + "Three.") ==
      "C<One.> " + kCallEvents + "C<\n\n\n  Two.> " + kCallEvents +
          "C<\nThree.> ");
  CHECK(
      events("One. " + kCall + "\n\n" + kCall + "\n Two.\n") ==
      "C<One.> " + kCallEvents + kCallEvents + "C< \n Two.\n> ");
  CHECK(
      events("One." + kCall + "Two.") == "C<One.> " + kCallEvents + "C<Two.> ");
  // Only where there are contents on both sides.
  CHECK(events("One.\n" + kCall + " \n ") == "C<One.> " + kCallEvents);
  CHECK(events("\n" + kCall + "\nTwo.") == kCallEvents + "C<Two.> ");
  // What was no call is content itself.
  CHECK(
      events("One.\n" + kCall + "\n<tool_call>") ==
      "C<One.> " + kCallEvents + "C<\n\n<tool_call>> ");
}

TEST_CASE("answer parser: what is no call is content, and nothing is lost") {
  CHECK(events("Use <tool_call> tags.") == "C<Use <tool_call> tags.> ");
  CHECK(
      events("a\n\n<tool_call>\n{\"x\": 1}\n</tool_call>") ==
      "C<a\n\n<tool_call>\n{\"x\": 1}\n</tool_call>> ");
  CHECK(
      events("<tool_call>\n{\"name\": \"f\"") ==
      "C<<tool_call>\n{\"name\": \"f\"> ");
  CHECK(events("<tool_call>" + kCall) == "C<<tool_call>> " + kCallEvents);
  CHECK(events("<tool_call>\n" + kCall) == "C<<tool_call>> " + kCallEvents);
  CHECK(events("<tool_call>") == "C<<tool_call>> ");
  CHECK(events("\n<tool_ca") == "C<\n<tool_ca> ");
}

TEST_CASE(
    "answer parser: without tools or a form, marks of calls are content") {
  const AnswerForm form = thinking(form_named("qwen-json"));
  CHECK(events_of(form, {}, false, {kCall}) == "C<" + kCall + "> ");
  const AnswerForm untaught = thinking();
  CHECK(events_of(untaught, kTools, false, {kCall}) == "C<" + kCall + "> ");
}

TEST_CASE("answer parser: text is told as soon as it is certain") {
  const AnswerForm form = thinking(form_named("qwen-json"));
  AnswerParser parser(form, kTools, false);
  EventLog log;
  parser.push("Hello <", log);
  CHECK(log.text() == "C<Hello> ");
  parser.push("b", log);
  CHECK(log.text() == "C<Hello> C< <b> ");
  parser.push(" <tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"x", log);
  CHECK(log.text() == "C<Hello> C< <b> call f A<{\"a\":\"x> ");
  CHECK(!parser.in_reasoning());
}

TEST_CASE("answer parser: the number of calls is bounded") {
  std::string text;
  for (size_t i = 0; i <= AnswerParser::kMostCalls; ++i) {
    text += kCall;
  }
  const AnswerForm form = thinking(form_named("qwen-json"));
  const ParsedAnswer answer = parse_answer(form, kTools, false, text);
  CHECK(answer.calls.size() == AnswerParser::kMostCalls);
  CHECK(answer.content == kCall);
}

TEST_CASE("answer parser: white space without an end is told in the end") {
  const std::string space(3 * AnswerParser::kMostSpace + 5, '\n');
  CHECK(events("a" + space) == "C<a" + space + "> ");
  const AnswerForm form = thinking(form_named("qwen-json"));
  AnswerParser parser(form, kTools, false);
  EventLog log;
  parser.push("a" + space, log);
  CHECK(log.text().size() > 3 * AnswerParser::kMostSpace);
  const std::string full(AnswerParser::kMostSpace, '\n');
  CHECK(events("a" + full + kCall) == "C<a" + full + "> " + kCallEvents);
}

TEST_CASE("answer parser: how a text is cut changes nothing") {
  const uint64_t seed = 21;
  CAPTURE(seed);
  Rng rng(seed);
  const std::vector<std::string> pieces = {
      "<think>",
      "</think>",
      "<tool_call>",
      "</tool_call>",
      "\n",
      " ",
      "<",
      "{\"name\": \"f\", \"arguments\": ",
      "{\"a\": \"x\"}",
      "}",
      "{",
      "\"",
      "</tool_call>\\n",
      "Hello",
      "<function=f>\n",
      "<parameter=a>\n",
      "\n</parameter>\n",
      "</function>\n",
      "12",
      "é",
      "\\",
      "[",
      ",",
      ":",
      "{\"arguments\": {\"a\": [1.5e2, true]}, \"name\": \"g\"}"};
  for (const ToolForm* tools : tool_forms()) {
    const AnswerForm form = thinking(tools);
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      for (uint64_t n = rng.below(14); n > 0; --n) {
        text += pieces[rng.below(pieces.size())];
      }
      CAPTURE(text);
      const bool in_reasoning = rng.below(4) == 0;
      std::vector<std::string_view> parts;
      for (std::string_view rest = text; !rest.empty();) {
        parts.push_back(rest.substr(0, 1 + rng.below(9)));
        rest.remove_prefix(parts.back().size());
      }
      EventLog log;
      AnswerParser parser(form, kTools, in_reasoning);
      for (const std::string_view part : parts) {
        parser.push(part, log);
      }
      parser.finish(log);
      CHECK(log.text() == events_of(form, kTools, in_reasoning, {text}));
      for (const std::string& arguments : log.arguments()) {
        CHECK(nlohmann::json::parse(arguments, nullptr, false).is_object());
      }
    }
  }
}

TEST_CASE("answer parser: answers that say the same") {
  const ParsedAnswer a{"r", "c\n", {{"f", R"({"a": 1, "b": 2})"}}};
  ParsedAnswer b{"\nr", " c", {{"f", R"({"b":2,"a":1})"}}};
  CHECK(says_the_same(a, b));
  b.calls[0].arguments = R"({"a": 1})";
  CHECK(!says_the_same(a, b));
  b.calls[0] = {"g", a.calls[0].arguments};
  CHECK(!says_the_same(a, b));
  b.calls.clear();
  CHECK(!says_the_same(a, b));
  b = a;
  b.content = "d";
  CHECK(!says_the_same(a, b));
  b = a;
  b.calls[0].arguments = "{";
  CHECK(!says_the_same(b, b));
}

} // namespace mlx_flash::parse
