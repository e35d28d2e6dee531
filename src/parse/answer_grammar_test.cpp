// What can be said of grammars as texts. That they mean what they should is
// tested where there is what reads them (engine/answer_grammar_test.cpp).
#include "parse/answer_grammar.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "mlx_flash/error.h"
#include "parse/lark.h"

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

std::string grammar_for(const char* form_name, const std::string& schema) {
  const AnswerForm form{"", "", form_named(form_name)};
  const std::vector<ToolSignature> tools = {{"f", schema, true}};
  AnswerWishes wishes;
  wishes.tools = tools;
  wishes.calls = AnswerWishes::Calls::required;
  return answer_grammar(form, wishes);
}

std::string error_of(const char* form_name, const std::string& schema) {
  try {
    grammar_for(form_name, schema);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

// Of a strict tool with one parameter.
std::string parameter_error(const std::string& schema) {
  return error_of(
      "qwen-xml", R"({"type": "object", "properties": {"p": )" + schema + "}}");
}

bool names(const std::string& error, std::string_view word) {
  CAPTURE(error);
  CHECK(error.find("'f'") != std::string::npos);
  return error.find(word) != std::string::npos;
}

} // namespace

TEST_CASE("lark: literals and regular expressions are quoted") {
  CHECK(
      lark_string("a\"\\\n\x7F"
                  "é") == R"("a\"\\\n\u007f\u00e9")");
  CHECK(lark_regex("a/b\\/c\\\\/d") == R"(/a\/b\/c\\\/d/)");
  CHECK(lark_regex("") == "\"\"");
  CHECK(escape_regex("<a.b*>[\\") == R"(<a\.b\*>\[\\)");
}

TEST_CASE("lark: a schema has no say in how white space is written") {
  using Json = nlohmann::ordered_json;
  const std::string prefix = "%json ";
  const auto options_of = [&](const char* schema) {
    const std::string text = lark_json(Json::parse(schema));
    REQUIRE(text.substr(0, prefix.size()) == prefix);
    return Json::parse(text.substr(prefix.size())).at("x-guidance");
  };
  const Json ours = options_of(R"({"type": "object"})");
  CHECK(ours.at("whitespace_flexible") == false);
  CHECK(options_of(R"({"x-guidance": {"whitespace_flexible": true,
                                    "lenient": true}})") == ours);
}

TEST_CASE("answer grammar: calls that are forbidden do not begin") {
  const AnswerForm form{"<think>", "</think>", form_named("qwen-json")};
  const std::vector<ToolSignature> tools = {{"f", "", false}};
  AnswerWishes wishes;
  wishes.calls = AnswerWishes::Calls::forbidden;
  CHECK(answer_grammar(form, wishes) == ""); // there are none
  wishes.tools = tools;
  CHECK(
      answer_grammar(form, wishes) ==
      "start: TEXT?\n"
      "TEXT: /(?s:.*)/ & ~/(?s:.*)<tool_call>(?s:.*)/\n");
  // What is asked for instead holds, and is all there is.
  wishes.content = AnswerWishes::Content::regex;
  wishes.source = "yes|no";
  CHECK(answer_grammar(form, wishes) == "start: (/yes|no/)\n");
}

TEST_CASE("answer grammar: no grammar without a form or tools to call") {
  const AnswerForm untaught{"<think>", "</think>", nullptr};
  const std::vector<ToolSignature> tools = {{"f", "", true}};
  AnswerWishes wishes;
  wishes.calls = AnswerWishes::Calls::required;
  wishes.tools = tools;
  CHECK(answer_grammar(untaught, wishes) == "");
  wishes.tools = {};
  const AnswerForm taught{"", "", form_named("qwen-json")};
  CHECK(answer_grammar(taught, wishes) == "");
}

TEST_CASE("answer grammar: a strict schema that is none is an error") {
  for (const char* form : {"qwen-json", "qwen-xml"}) {
    CHECK(names(error_of(form, "nonsense"), "no JSON object"));
    CHECK(names(error_of(form, "[]"), "no JSON object"));
    std::string deep;
    for (int i = 0; i < 100'000; ++i) {
      deep += "{\"items\":";
    }
    CHECK(names(
        error_of(form, deep + "{}" + std::string(100'000, '}')),
        "nested deeper"));
  }
  CHECK(names(error_of("qwen-json", R"({"type": "array"})"), "no object"));
}

TEST_CASE("answer grammar: a JSON schema for content must be one") {
  const AnswerForm form;
  AnswerWishes wishes;
  wishes.content = AnswerWishes::Content::json_schema;
  wishes.source = "[1]";
  CHECK_THROWS_AS(answer_grammar(form, wishes), Error);
  wishes.source = R"({"type": "string"})";
  CHECK(answer_grammar(form, wishes).find("%json") != std::string::npos);
}

TEST_CASE("answer grammar: what XML calls cannot be held to is named") {
  CHECK(names(
      error_of("qwen-xml", R"({"type": "object", "minProperties": 1})"),
      "minProperties"));
  CHECK(names(
      error_of("qwen-xml", R"({"type": "object", "required": ["q"]})"),
      "\"q\""));
  CHECK(names(parameter_error(R"({"type": "string", "not": {}})"), "not"));
  CHECK(names(
      parameter_error(R"({"anyOf": [{"type": "string"},
                                    {"type": "integer", "minimum": 3}]})"),
      "tells them apart"));
  CHECK(names(parameter_error(R"({"enum": ["5", 5]})"), "\"5\""));
  CHECK(names(
      parameter_error(R"({"type": "string", "const": "</parameter>"})"),
      "</parameter>"));
  CHECK(names(
      parameter_error(R"({"type": "string", "maxLength": "3"})"), "maxLength"));
  CHECK(names(
      parameter_error(R"({"type": "string", "pattern": "^a|b$"})"), "pattern"));
  CHECK(
      names(parameter_error(R"({"type": "string", "pattern": 5})"), "pattern"));
  CHECK(names(
      parameter_error(R"({"type": "string", "format": "date"})"), "format"));
  CHECK(names(
      parameter_error(R"({"type": ["string", "null"], "format": "date"})"),
      "format"));
  CHECK(
      names(parameter_error(R"({"const": "a", "enum": ["a", "b"]})"), "enum"));
  CHECK(names(parameter_error(R"({"enum": "a"})"), "enum"));
  CHECK(names(parameter_error(R"({"anyOf": {"a": {}}})"), "anyOf"));
  CHECK(names(parameter_error(R"({"$ref": "#/$defs/x"})"), "#/$defs/x"));
  CHECK(names(parameter_error("false"), "nothing"));
  CHECK(names(
      parameter_error(R"({"anyOf": [{"$ref": "#/properties/p"},
                                    {"type": "string"}]})"),
      "too many alternatives"));
  CHECK(
      names(parameter_error(R"({"$ref": "#/properties/p"})"), "leads nowhere"));
  CHECK(names(
      error_of("qwen-xml", R"({"properties": {"a>b": {"type": "string"}}})"),
      "a>b"));
}

TEST_CASE("answer grammar: XML calls are held to one schema of many by type") {
  const auto error_of_one = [](const char* a, const char* b) {
    return parameter_error(fmt::format(R"({{"oneOf": [{}, {}]}})", a, b));
  };
  const char* const text = R"({"type": "string"})";
  CHECK(error_of_one(text, R"({"type": "integer"})") == "");
  CHECK(error_of_one(R"({"enum": ["a", "b"]})", R"({"type": "null"})") == "");
  CHECK(names(
      error_of_one(text, R"({"type": "string", "maxLength": 3})"), "oneOf"));
  CHECK(names(error_of_one(text, "{}"), "oneOf"));
  // 1.0 is an integer too.
  CHECK(names(
      parameter_error(R"({"oneOf": [{"const": "a"}, {"type": "integer"},
                                    {"const": 1.0}]})"),
      "oneOf"));
  CHECK(names(
      parameter_error(R"({"anyOf": [{"type": "string"}],
                          "oneOf": [{"const": "a"}]})"),
      "oneOf"));
}

TEST_CASE("answer grammar: values of a type that is not allowed are none") {
  const std::string grammar = grammar_for(
      "qwen-xml",
      R"({"properties": {"p": {"anyOf": [
          {"type": "string", "enum": ["a", 7]},
          {"type": "integer", "minimum": 8}]}}})");
  CHECK(grammar.find("\"a\\n") != std::string::npos);
  CHECK(grammar.find("\"7\\n") == std::string::npos);
}

TEST_CASE("answer grammar: a pattern has no say in what is around it") {
  const std::string grammar = grammar_for(
      "qwen-xml",
      R"({"properties": {"p": {"type": "string", "pattern": "a)|(b"}}})");
  CHECK(grammar.find("(/(?s:.*)/ /(a)|(b)/ /(?s:.*)/)") != std::string::npos);
}

TEST_CASE("answer grammar: definitions are there for what refers to them") {
  const std::string definitions = R"("$defs": {"t": {"enum": [1, 2]}})";
  const auto grammar_of = [&](const std::string& property) {
    return grammar_for(
        "qwen-xml",
        R"({"properties": {"p": )" + property + "}, " + definitions + "}");
  };
  const std::string list =
      R"({"type": "array", "items": {"$ref": "#/$defs/t"}})";
  CHECK(grammar_of(list).find("$defs") != std::string::npos);
  CHECK(
      grammar_of(R"({"type": "integer"})").find("$defs") == std::string::npos);
}

TEST_CASE("answer grammar: what schemas refer to again and again is bounded") {
  constexpr int kProperties = 300;
  const auto error_for = [](const std::string& property, const std::string& t) {
    std::string properties;
    for (int i = 0; i < kProperties; ++i) {
      properties += fmt::format("{}\"p{}\": {}", i ? ", " : "", i, property);
    }
    return error_of(
        "qwen-xml",
        fmt::format(
            R"({{"properties": {{{}}}, "$defs": {{"t": {}}}}})",
            properties,
            t));
  };
  const std::string reference = R"({"$ref": "#/$defs/t"})";
  CHECK(error_for(reference, R"({"type": "integer"})") == "");
  const std::string long_text = "\"" + std::string(30'000, 'x') + "\"";
  CHECK(names(
      error_for(reference, R"({"const": )" + long_text + "}"), "too much"));
  CHECK(names(
      error_for(
          R"({"type": "array", "items": )" + reference + "}",
          R"({"const": )" + long_text + "}"),
      "too much"));
  // Those that add little to the grammar are looked at all the same.
  std::string many;
  for (int i = 0; i < 125; ++i) {
    many +=
        fmt::format(R"({}{{"anyOf": [{{"const": "a"}}]}})", i > 0 ? ", " : "");
  }
  CHECK(
      names(error_for(reference, R"({"anyOf": [)" + many + "]}"), "too much"));
}

TEST_CASE("answer grammar: what XML calls can be held to is taken") {
  for (const char* schema :
       {R"({"type": "string", "description": "d"})",
        R"({"type": "integer", "format": "int32"})",
        R"({"anyOf": [{"type": "string"},
                      {"type": "integer", "format": "int32"}]})",
        R"({"type": ["string", "null"], "minLength": 2})",
        R"({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]})",
        R"({"anyOf": [{"type": "string"}, {"type": "object"}]})",
        R"({"type": "integer", "minimum": 3})",
        "{}",
        "true",
        R"({"type": "object", "properties": {"x": {"type": "string"}}})"}) {
    CAPTURE(schema);
    CHECK(parameter_error(schema) == "");
  }
}

} // namespace mlx_flash::parse
