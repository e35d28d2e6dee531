#include "parse/qwen_xml_call.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "parse/qwen_xml_form.h"
#include "parse/test_answers.h"

namespace mlx_flash::parse {

namespace {

const std::vector<ToolSignature> kTools = {{"f", R"({
  "type": "object",
  "properties": {
    "s": {"type": "string"}, "n": {"type": "number"}, "i": {"type": "integer"},
    "b": {"type": "boolean"}, "z": {"type": "null"}, "o": {"type": "object"},
    "l": {"type": "array"}, "sn": {"type": ["string", "null"]},
    "si": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    "e": {"enum": ["1", "2"]}, "r": {"$ref": "#/$defs/text"}, "any": {}
  },
  "$defs": {"text": {"type": "string"}}})"}};

std::string events(const std::string& text) {
  static const QwenXmlForm tools;
  static const AnswerForm form{"", "", &tools};
  const std::string whole = "<tool_call>" + text;
  const std::string at_once = events_of(form, kTools, false, {whole});
  CHECK(at_once == events_of(form, kTools, false, single_bytes(whole)));
  return at_once;
}

std::string call_of(const std::string& parameters) {
  return "\n<function=f>\n" + parameters + "</function>\n</tool_call>";
}

// The JSON of one parameter's value.
std::string value_of(const std::string& key, const std::string& value) {
  const std::string head = "call f A<{\"" + key + "\": ";
  const std::string log =
      events(call_of("<parameter=" + key + ">\n" + value + "\n</parameter>\n"));
  REQUIRE(log.starts_with(head));
  REQUIRE(log.ends_with("}> end "));
  return log.substr(head.size(), log.size() - head.size() - 7);
}

} // namespace

// Where calls are read nothing may take long, and a schema may.
TEST_CASE("qwen xml: a call reads no schema") {
  static const QwenXmlForm form;
  std::vector<ToolSignature> tools = {
      {"f", R"({"properties": {"s": {"type": "string"}}})"}};
  tools[0].parameters.clear();
  CHECK(
      events_of(
          {"", "", &form},
          tools,
          false,
          {"<tool_call>", call_of("<parameter=s>\n5\n</parameter>\n")}) ==
      "call f A<{\"s\": \"5\"}> end ");
}

TEST_CASE("qwen xml: parameters make an object") {
  CHECK(events(call_of("")) == "call f A<{}> end ");
  CHECK(
      events(call_of("<parameter=s>\nx\n</parameter>\n"
                     "<parameter=i>\n5\n</parameter>\n")) ==
      "call f A<{\"s\": \"x\", \"i\": 5}> end ");
  CHECK(
      events("<function=f><parameter=s>x</parameter></function></tool_call>") ==
      "call f A<{\"s\": \"x\"}> end ");
  CHECK(
      events("\n<function=other>\n<parameter=a b>\n1\n</parameter>\n"
             "</function>\n</tool_call>") == "call other A<{\"a b\": 1}> end ");
}

TEST_CASE("qwen xml: texts are texts, but for a line end at either side") {
  CHECK(value_of("s", "x") == R"("x")");
  CHECK(value_of("s", "") == R"("")");
  CHECK(value_of("s", "5") == R"("5")");
  CHECK(value_of("s", "null") == R"("null")");
  CHECK(value_of("s", "\n x \n") == R"("\n x \n")");
  CHECK(
      value_of("s", "a\n\"b\"\\\t\x01 é漢🙂\r") ==
      R"("a\n\"b\"\\\t\u0001 é漢🙂\r")");
  CHECK(
      value_of("s", "<b></b> </tool_call> <tool_call> <parameter") ==
      R"("<b></b> </tool_call> <tool_call> <parameter")");
  CHECK(value_of("r", "5") == R"("5")");
  CHECK(value_of("e", "2") == R"("2")");
}

TEST_CASE("qwen xml: other values are what their schema allows") {
  CHECK(value_of("n", "1.50") == "1.50");
  CHECK(value_of("n", " -2e3 ") == "-2e3");
  CHECK(value_of("i", "5") == "5");
  CHECK(value_of("b", "true") == "true");
  CHECK(value_of("b", "False") == "false");
  CHECK(value_of("z", "None") == "null");
  CHECK(
      value_of("o", "{\"a\": [1, \"</tool_call>\"]}") ==
      "{\"a\": [1, \"</tool_call>\"]}");
  CHECK(value_of("l", "[1, 2]") == "[1, 2]");
  CHECK(value_of("sn", "null") == "null");
  CHECK(value_of("sn", "nullable") == R"("nullable")");
  CHECK(value_of("sn", "5") == R"("5")");
  CHECK(value_of("si", "5") == "5");
  CHECK(value_of("si", "5.5") == R"("5.5")");
  CHECK(value_of("si", "true") == R"("true")");
  CHECK(value_of("any", "[1]") == "[1]");
  CHECK(value_of("unknown", "{\"a\": 1}") == "{\"a\": 1}");
}

TEST_CASE("qwen xml: what is no JSON of an allowed type is a text") {
  CHECK(value_of("i", "five") == R"("five")");
  CHECK(value_of("n", "1.") == R"("1.")");
  CHECK(value_of("n", "1e999") == R"("1e999")");
  CHECK(value_of("b", "truely") == R"("truely")");
  CHECK(value_of("o", "{'a': 1}") == R"("{'a': 1}")");
  CHECK(value_of("o", "[1]") == R"("[1]")");
  CHECK(value_of("l", "[1, 2") == R"("[1, 2")");
  CHECK(value_of("n", "") == R"("")");
}

TEST_CASE("qwen xml: a value may contain its own closing mark") {
  CHECK(
      value_of("s", "<p>\n</parameter>\n<q>") == R"("<p>\n</parameter>\n<q>")");
  CHECK(
      value_of("s", "</parameter>\n</parameter>") ==
      R"("</parameter>\n</parameter>")");
  CHECK(
      value_of("s", "a</parameter> </function") ==
      R"("a</parameter> </function")");
}

TEST_CASE("qwen xml: texts are told as they arrive") {
  const QwenXmlForm form;
  const auto parser = form.make_parser(kTools);
  EventLog log;
  parser->push("<function=f>", log);
  CHECK(log.text() == "call f A<{> ");
  parser->push("\n<parameter=s>\nab", log);
  CHECK(log.text() == "call f A<{> A<\"s\": \"ab> ");
  parser->push("\xE6\xBC", log);
  CHECK(log.text() == "call f A<{> A<\"s\": \"ab> ");
  parser->push("\xA2\n</par", log);
  CHECK(log.text() == "call f A<{> A<\"s\": \"ab> A<漢> ");
}

TEST_CASE("qwen xml: a parameter that comes twice counts once") {
  CHECK(
      events(call_of("<parameter=s>\nx\n</parameter>\n"
                     "<parameter=s>\ny\n</parameter>\n"
                     "<parameter=i>\n1\n</parameter>\n")) ==
      "call f A<{\"s\": \"x\", \"i\": 1}> end ");
}

TEST_CASE("qwen xml: an answer's end closes what was told") {
  CHECK(events("<function=f>") == "call f A<{}> end ");
  CHECK(
      events("<function=f><parameter=s>x") == "call f A<{\"s\": \"x\"}> end ");
  CHECK(
      events("<function=f><parameter=s>x\n</parameter>\n") ==
      "call f A<{\"s\": \"x\"}> end ");
  CHECK(events("<function=f><parameter=i>5") == "call f A<{}> end ");
  CHECK(
      events("<function=f><parameter=i>5</parameter>") ==
      "call f A<{\"i\": 5}> end ");
  CHECK(
      events("<function=f><parameter=sn>x") ==
      "call f A<{\"sn\": \"x\"}> end ");
}

TEST_CASE("qwen xml: what is no call is content") {
  for (const std::string text :
       {" tags",
        "\n<functio",
        "\n<function=",
        "<function=>x",
        "<function=a\nb>",
        "{\"name\": \"f\"}",
        "<function=<"}) {
    CAPTURE(text);
    CHECK(events(text) == "C<<tool_call>" + text + "> ");
  }
}

TEST_CASE("qwen xml: marks that are missing or wrong") {
  CHECK(
      events("<function=f><parameter=s>x</parameter></tool_call>y") ==
      "call f A<{\"s\": \"x\"}> end C<y> ");
  CHECK(events("<function=f>oh</tool_call>y") == "call f A<{}> end C<y> ");
  CHECK(events("<function=f></function>y") == "call f A<{}> end C<y> ");
  CHECK(
      events("<function=f></function><tool_call><function=f></function>") ==
      "call f A<{}> end call f A<{}> end ");
  CHECK(
      events("<function=f><parameter=>x</tool_call>y") ==
      "call f A<{}> end C<y> ");
}

TEST_CASE("qwen xml: names, parameters and held values are bounded") {
  const std::string name(QwenXmlCall::kMostNameBytes + 1, 'n');
  CHECK(events("<function=" + name + ">").starts_with("C<"));
  CHECK(events("<function=f><parameter=" + name + ">") == "call f A<{}> end ");
  const std::string space(QwenXmlCall::kMostHeldBytes + 1, ' ');
  CHECK(events(space + "<function=f>").starts_with("C<"));

  std::string many = "<function=f>";
  for (size_t i = 0; i <= QwenXmlCall::kMostParameters; ++i) {
    many += "<parameter=p" + std::to_string(i) + ">1</parameter>";
  }
  const QwenXmlForm form;
  const auto parser = form.make_parser(kTools);
  EventLog log;
  parser->push(many + "</function></tool_call>", log);
  CHECK(
      nlohmann::json::parse(log.arguments()[0]).size() ==
      QwenXmlCall::kMostParameters);

  const std::string list =
      "[" + std::string(QwenXmlValue::kMostHeldBytes, ' ') + "]";
  CHECK(value_of("l", list) == "\"" + list + "\"");
}

TEST_CASE("qwen xml: text that is no UTF-8 is replaced") {
  CHECK(
      value_of(
          "s",
          "a\xFF"
          "b\xE6\xBC") ==
      "\"a\xEF\xBF\xBD"
      "b\xEF\xBF\xBD\"");
  CHECK(
      value_of("s", "\xE6x\xC0\x80") ==
      "\"\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

} // namespace mlx_flash::parse
