#include "server/api/openai_responses_tools.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

struct Read {
  ResponseTools tools;
  ToolChoice choice;
  Json echo;
};

Read read(const std::string& text, const ServerLimits& limits = {}) {
  const Json body = Json::parse(text);
  Fields fields(body);
  Read result;
  result.tools = read_response_tools(fields, limits, result.echo);
  result.choice = read_response_tool_choice(fields, result.tools, result.echo);
  fields.done();
  return result;
}

std::string refusal(const std::string& text, const ServerLimits& limits = {}) {
  try {
    read(text, limits);
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    return error.param + ": " + error.what();
  }
  return "";
}

bool starts_with(const std::string& text, const std::string& begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

std::string with_choice(const std::string& choice) {
  return R"({"tools": [{"type": "function", "name": "f"},
                       {"type": "function", "name": "g"},
                       {"type": "namespace", "name": "crm", "description": "",
                        "tools": [{"type": "function", "name": "find"}]}],
             "tool_choice": )" +
      choice + "}";
}

constexpr const char* kClosed =
    R"({"type":"object","properties":{"a":{"type":"string"}},)"
    R"("required":["a"],"additionalProperties":false})";

} // namespace

TEST_CASE("response tools: a function is read in its flat form") {
  const Read result = read(
      R"({"tools": [{"type": "function", "name": "f", "description": "d",
          "parameters": {"type": "object", "properties": {}},
          "strict": true}]})");
  REQUIRE(result.tools.tools.size() == 1);
  const Tool& tool = result.tools.tools[0];
  CHECK(tool.name == "f");
  CHECK(tool.description == "d");
  CHECK(tool.parameters == R"({"type":"object","properties":{}})");
  CHECK(tool.strict);
  CHECK(
      result.echo["tools"] ==
      Json::parse(
          R"([{"type": "function", "name": "f", "description": "d",
               "parameters": {"type": "object", "properties": {}},
               "strict": true}])"));
  CHECK(read("{}").tools.tools.empty());
}

TEST_CASE("response tools: whoever does not say is strict if the schema is") {
  const auto strict = [](const std::string& schema, const char* more = "") {
    return read(
               R"({"tools": [{"type": "function", "name": "f", "parameters": )" +
               schema + more + "}]}")
        .tools.tools[0]
        .strict;
  };
  CHECK(strict(kClosed));
  CHECK_FALSE(strict(kClosed, R"(, "strict": false)"));
  CHECK_FALSE(strict(R"({"type": "object", "properties": {}})"));
  CHECK(
      strict(R"({"type": "object", "properties": {}})", R"(, "strict": true)"));
  CHECK_FALSE(read(R"({"tools": [{"type": "function", "name": "f"}]})")
                  .tools.tools[0]
                  .strict);
}

TEST_CASE("response tools: a strict schema is closed in all of its depth") {
  const auto is = [](const std::string& schema) {
    return is_strict_schema(Json::parse(schema));
  };
  const auto with_property = [](const std::string& schema) {
    return R"({"type": "object", "properties": {"a": )" + schema +
        R"(}, "required": ["a"], "additionalProperties": false})";
  };
  CHECK(is(with_property(R"({"type": "string", "description": "d"})")));
  CHECK(is(with_property(R"({"type": ["string", "null"]})")));
  CHECK(is(with_property(kClosed)));
  CHECK(is(with_property(R"({"type": "array", "items": {"enum": [1]}})")));
  CHECK(is(with_property(R"({"anyOf": [{"const": 1}, {"type": "null"}]})")));
  CHECK_FALSE(is(with_property(R"({"type": "object", "properties": {}})")));
  CHECK_FALSE(is(with_property(
      R"({"type": "array", "items": {"type": "object", "properties": {}}})")));
  CHECK_FALSE(is(with_property(R"({"anyOf": [{"not": {}}]})")));
  CHECK_FALSE(is(with_property(R"({"type": "string", "pattern": "a"})")));
  CHECK_FALSE(is(with_property("true")));
  CHECK_FALSE(is(R"({"type": "object", "properties": {"a": {}}, "required": [],
             "additionalProperties": false})"));
  CHECK_FALSE(is(R"({"type": "object", "properties": {"a": {}}, "required": "a",
             "additionalProperties": false})"));
}

TEST_CASE("response tools: tools that OpenAI would run are refused by name") {
  for (const char* type :
       {"web_search",
        "file_search",
        "computer",
        "computer_use_preview",
        "mcp",
        "code_interpreter",
        "image_generation",
        "custom",
        "local_shell",
        "shell",
        "tool_search",
        "apply_patch"}) {
    const std::string what =
        refusal(R"({"tools": [{"type": ")" + std::string(type) + R"("}]})");
    CHECK(starts_with(what, "tools[0].type:"));
    CHECK(what.find(std::string("'") + type + "'") != std::string::npos);
  }
}

TEST_CASE("response tools: what is wrong with a tool is named") {
  const auto of = [](const std::string& tool) {
    return refusal(
        R"({"tools": [{"type": "function", "name": "f"}, )" + tool + "]}");
  };
  CHECK(starts_with(of(R"({"name": "g"})"), "tools[1].type:"));
  CHECK(starts_with(of(R"({"type": "function"})"), "tools[1].name:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "a b"})"), "tools[1].name:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "f"})"), "tools[1].name:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "g", "parameters": []})"),
      "tools[1].parameters:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "g",
             "parameters": {"type": "array"}})"),
      "tools[1].parameters:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "g", "function": {}})"),
      "tools[1].function:"));
  CHECK(starts_with(
      of(R"({"type": "function", "name": "g",
             "allowed_callers": ["programmatic"]})"),
      "tools[1].allowed_callers:"));
  CHECK(of(R"({"type": "function", "name": "g", "defer_loading": false,
               "allowed_callers": ["direct"], "output_schema": {}})")
            .empty());
}

TEST_CASE("response tools: a schema does not set the compiler's options") {
  const std::string f = R"({"type": "function", "name": "f",
                            "parameters": {"x-guidance": {}}})";
  CHECK(starts_with(
      refusal(R"({"tools": [)" + f + "]}"),
      "tools[0].parameters.x-guidance: "));
}

TEST_CASE("response tools: there are bounds on their number and size") {
  ServerLimits limits;
  limits.tools = 2;
  limits.schema_bytes = 100;
  const std::string f = R"({"type": "function", "name": "f"})";
  const std::string g = R"({"type": "function", "name": "g"})";
  const std::string h = R"({"type": "function", "name": "h"})";
  CHECK(refusal(R"({"tools": [)" + f + "," + g + "]}", limits).empty());
  CHECK(starts_with(
      refusal(R"({"tools": [)" + f + "," + g + "," + h + "]}", limits),
      "tools:"));
  // In all, namespaces included.
  CHECK(starts_with(
      refusal(
          R"({"tools": [)" + f + R"(, {"type": "namespace", "name": "n",
              "tools": [)" +
              g + "," + h + "]}]}",
          limits),
      "tools:"));
  CHECK(starts_with(
      refusal(
          R"({"tools": [{"type": "function", "name": "f", "parameters":
              {"description": ")" +
              std::string(100, 'x') + R"("}}]})",
          limits),
      "tools[0].parameters:"));
}

TEST_CASE("response tools: functions of a namespace are known by both names") {
  const Read result = read(
      R"({"tools": [{"type": "namespace", "name": "crm",
          "description": "Customers.",
          "tools": [{"type": "function", "name": "find", "description": "d"},
                    {"type": "function", "name": "list"}]}]})");
  REQUIRE(result.tools.tools.size() == 2);
  CHECK(result.tools.tools[0].name == "crm__find");
  CHECK(result.tools.tools[0].description == "Customers.\n\nd");
  CHECK(result.tools.tools[1].name == "crm__list");
  CHECK(result.tools.namespaced.at("crm__list").name_space == "crm");
  CHECK(result.tools.namespaced.at("crm__list").name == "list");
  CHECK(result.echo["tools"][0]["type"] == "namespace");
  CHECK(result.echo["tools"][0]["tools"][1]["name"] == "list");

  CHECK(starts_with(
      refusal(R"({"tools": [{"type": "namespace", "name": "crm",
                  "tools": [{"type": "custom", "name": "x"}]}]})"),
      "tools[0].tools[0].type:"));
  CHECK(starts_with(
      refusal(R"({"tools": [{"type": "function", "name": "a__b"},
                  {"type": "namespace", "name": "a",
                   "tools": [{"type": "function", "name": "b"}]}]})"),
      "tools[1].tools[0].name:"));
}

TEST_CASE("response tools: which of them may be called") {
  using Kind = ToolChoice::Kind;
  CHECK(read("{}").choice.kind == Kind::automatic);
  CHECK(read("{}").echo["tool_choice"] == "auto");
  CHECK(read(with_choice("\"auto\"")).choice.kind == Kind::automatic);
  CHECK(read(with_choice("\"none\"")).choice.kind == Kind::none);
  CHECK(read(with_choice("\"required\"")).choice.kind == Kind::required);

  const Read named = read(with_choice(R"({"type": "function", "name": "g"})"));
  CHECK(named.choice.kind == Kind::named);
  CHECK(named.choice.name == "g");
  CHECK(named.echo["tool_choice"]["name"] == "g");
  CHECK(
      read(with_choice(R"({"type": "function", "name": "find"})"))
          .choice.name == "crm__find");

  CHECK(starts_with(refusal(with_choice("\"any\"")), "tool_choice:"));
  CHECK(starts_with(
      refusal(with_choice(R"({"type": "function", "name": "h"})")),
      "tool_choice.name:"));
  CHECK(starts_with(
      refusal(with_choice(R"({"type": "web_search"})")), "tool_choice.type:"));
  CHECK(starts_with(refusal(R"({"tool_choice": "required"})"), "tool_choice:"));
}

TEST_CASE("response tools: those that are not allowed are left out") {
  const Read result = read(with_choice(
      R"({"type": "allowed_tools", "mode": "required",
          "tools": [{"type": "function", "name": "g"}]})"));
  CHECK(result.choice.kind == ToolChoice::Kind::required);
  REQUIRE(result.tools.tools.size() == 1);
  CHECK(result.tools.tools[0].name == "g");
  CHECK(result.echo["tools"].size() == 3);
  CHECK(starts_with(
      refusal(with_choice(R"({"type": "allowed_tools", "mode": "auto",
                              "tools": [{"type": "mcp"}]})")),
      "tool_choice.tools[0].type:"));
}

TEST_CASE("response tools: one call at a time, if that is asked for") {
  CHECK(read("{}").choice.parallel);
  const Read result = read(R"({"parallel_tool_calls": false})");
  CHECK_FALSE(result.choice.parallel);
  CHECK(result.echo["parallel_tool_calls"] == false);
}
