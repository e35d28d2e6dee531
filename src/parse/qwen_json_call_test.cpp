#include "parse/qwen_json_call.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "parse/qwen_json_form.h"
#include "parse/test_answers.h"

namespace mlx_flash::parse {

namespace {

// Of a call's text from behind its opening mark on.
std::string events(const std::string& text) {
  static const QwenJsonForm tools;
  static const AnswerForm form{"", "", &tools};
  const std::vector<ToolSignature> signatures = {{"f", ""}};
  const std::string whole = "<tool_call>" + text;
  const std::string at_once = events_of(form, signatures, false, {whole});
  CHECK(at_once == events_of(form, signatures, false, single_bytes(whole)));
  return at_once;
}

} // namespace

TEST_CASE("qwen json: arguments are told as they were written") {
  for (const std::string arguments :
       {R"({})",
        R"({"a": "x", "b" : [1, 2.50, {"c":null}],"d":"\u00e9\n é"})",
        "{\n  \"a\": true\n}",
        R"({"a": "</tool_call> <tool_call> <think>"})"}) {
    CAPTURE(arguments);
    const std::string expected = "call f A<" + arguments + "> end ";
    CHECK(
        events(
            "\n{\"name\": \"f\", \"arguments\": " + arguments +
            "}\n</tool_call>") == expected);
    CHECK(
        events(
            "{ \"name\" :\"f\",\n\"arguments\":" + arguments +
            " } </tool_call>") == expected);
    CHECK(
        events(
            "{\"arguments\": " + arguments +
            ", \"name\": \"f\"}</tool_call>") == expected);
  }
}

TEST_CASE("qwen json: other keys are passed over") {
  CHECK(
      events(R"({"id": 12, "x": {"name": "g", "arguments": {}}, "name": "f",
                   "type": "function", "arguments": {"a": 1}, "name": "h",
                   "arguments": {"b": 2}, "n": null}</tool_call>)") ==
      "call f A<{\"a\": 1}> end ");
}

TEST_CASE("qwen json: escapes in keys and names count as what they stand for") {
  CHECK(
      events(R"({"n\u0061me": "\u0066 \"q\" é",)"
             R"( "argum\u0065nts": {}}</tool_call>)") ==
      "call f \"q\" é A<{}> end ");
}

TEST_CASE("qwen json: arguments as a string that holds an object") {
  CHECK(
      events(R"({"name": "f", "arguments": " {\"a\": \"x\\ny\"} "})"
             "</tool_call>") == "call f A<{\"a\": \"x\\ny\"}> end ");
  CHECK(
      events(R"({"arguments": "{}", "name": "f"}</tool_call>)") ==
      "call f A<{}> end ");
  for (const char* held : {"[1]", "{", "text", "{} {}", ""}) {
    const std::string text =
        nlohmann::json({{"name", "f"}, {"arguments", held}}).dump();
    CHECK(
        events(text + "</tool_call>") ==
        "C<<tool_call>" + text + "</tool_call>> ");
  }
}

TEST_CASE("qwen json: a call without arguments has an empty object") {
  CHECK(events("{\"name\": \"f\"}</tool_call>") == "call f A<{}> end ");
  CHECK(
      events("{\"name\": \"f\", \"arguments\": null}</tool_call>") ==
      "call f A<{}> end ");
}

TEST_CASE("qwen json: an object that is no call is content") {
  for (const std::string text :
       {"{\"arguments\": {}}</tool_call>",
        "{}</tool_call>",
        "[]</tool_call>",
        "{\"name\": 3, \"arguments\": {}}</tool_call>",
        "{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "{\"name\": \"f\" \"arguments\": {}}</tool_call>",
        "{'name': 'f'}</tool_call>",
        "{\"arguments\": {\"a\" 1}}</tool_call>",
        "{\"name\": \"f\", </tool_call>"}) {
    CAPTURE(text);
    CHECK(events(text) == "C<<tool_call>" + text + "> ");
  }
}

TEST_CASE("qwen json: arguments that turn invalid are closed") {
  CHECK(
      events(R"({"name": "f", "arguments": {"a": "x", "b": tru3}})"
             "\n</tool_call>\nHello") ==
      "call f A<{\"a\": \"x\", \"b\": null}> end C<Hello> ");
  CHECK(
      events("{\"name\": \"f\", \"arguments\": {\"a\": \"print(\"x\")\"}}"
             "</tool_call>") == "call f A<{\"a\": \"print(\"}> end ");
  CHECK(
      events("{\"name\": \"f\", \"arguments\": {\"a\" 1}<tool_call>"
             "{\"name\": \"f\"}</tool_call>") ==
      "call f A<{\"a\" :null}> end call f A<{}> end ");
}

TEST_CASE("qwen json: an answer's end closes what was told") {
  const std::string head = "{\"name\": \"f\", \"arguments\": ";
  CHECK(events(head + "{") == "call f A<{}> end ");
  CHECK(events(head + "{\"a") == "call f A<{\"a\":null}> end ");
  CHECK(events(head + "{\"a\": \"x\\") == "call f A<{\"a\": \"x\"}> end ");
  CHECK(
      events(head + "{\"a\": [1, {\"b\": 2") ==
      "call f A<{\"a\": [1, {\"b\": null}]}> end ");
  CHECK(events(head + "{\"a\": 1}") == "call f A<{\"a\": 1}> end ");
  CHECK(events(head + "{\"a\": 1}}\n</tool") == "call f A<{\"a\": 1}> end ");
}

TEST_CASE("qwen json: braces and marks that are wrong at the end") {
  const std::string call = "{\"name\": \"f\", \"arguments\": {\"a\": 1}";
  const std::string expected = "call f A<{\"a\": 1}> end ";
  CHECK(events(call + "\n</tool_call>") == expected);
  CHECK(events(call + "}}\n</tool_call>") == expected);
  CHECK(events(call + "}\nHello") == expected + "C<Hello> ");
  CHECK(events(call + "}\n<b>") == expected + "C<<b>> ");
  CHECK(
      events(call + "}\n<tool_call>{\"name\": \"f\"}</tool_call>") ==
      expected + "call f A<{}> end ");
}

TEST_CASE("qwen json: what is held back and names are bounded") {
  const std::string name(QwenJsonCall::kMostNameBytes, 'n');
  const std::string long_name = "{\"name\": \"" + name + "\"}</tool_call>";
  CHECK(events(long_name) == "C<<tool_call>" + long_name + "> ");
  const std::string long_key = "{\"" + name + "\": 1}</tool_call>";
  CHECK(events(long_key) == "C<<tool_call>" + long_key + "> ");

  const QwenJsonForm form;
  const auto parser = form.make_parser({});
  EventLog log;
  const std::string held = "{\"arguments\": {\"a\": \"" +
      std::string(QwenJsonCall::kMostHeldBytes, 'x');
  CHECK(parser->push(held, log) == QwenJsonCall::kMostHeldBytes);
  CHECK(parser->state() == ToolCallParser::State::broken);
  CHECK(log.text() == "");
}

TEST_CASE("qwen json: arguments nested too deeply are closed") {
  const std::string deep(100'000, '[');
  const std::string log =
      events("{\"name\": \"f\", \"arguments\": {\"a\": " + deep);
  const size_t brackets = JsonPrefix::kMostDepth - 1;
  CHECK(
      log ==
      "call f A<{\"a\": " + std::string(brackets, '[') +
          std::string(brackets, ']') + "}> end ");
}

} // namespace mlx_flash::parse
