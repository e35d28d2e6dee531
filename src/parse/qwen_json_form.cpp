#include "parse/qwen_json_form.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "parse/json_types.h"
#include "parse/lark.h"
#include "parse/qwen_json_call.h"
#include "parse/schema.h"

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

// From the mark to the first key in a template's source, where "\n" may be
// spelled out and strings may end and begin: {{- "<tool_call>\n" }}{{- '{"na
constexpr size_t kMostBetween = 32;

// Whether what follows an opening mark begins an object with one of the keys.
bool begins_call(std::string_view text) {
  const size_t brace = text.find("{\"");
  const size_t escaped = text.find("{\\\"");
  const size_t begin = std::min(brace, escaped);
  if (begin > kMostBetween ||
      text.substr(0, begin).find_first_of("<[") < std::string_view::npos) {
    return false;
  }
  const std::string_view key = text.substr(begin + (brace < escaped ? 2 : 3));
  return key.starts_with("name") || key.starts_with("arguments");
}

// Of a strict tool what its schema allows, and of others any object: what the
// grammars' library cannot read must not matter then.
Json arguments_schema(const ToolSignature& tool) {
  Json schema = Json::object();
  if (tool.strict && !tool.parameters.empty()) {
    schema = parse_schema(
        tool.parameters,
        fmt::format("[tools] the schema of the strict tool '{}'", tool.name));
  }
  if (!(SchemaTypes(schema).of(schema) & kObject)) {
    fail(
        ErrorCode::invalid_argument,
        "[tools] the schema of the strict tool '{}' allows no object, which "
        "arguments are",
        tool.name);
  }
  schema["type"] = "object";
  return schema;
}

} // namespace

bool QwenJsonForm::is_taught_by(std::string_view chat_template) const {
  return chat_template.find(kQwenCallClose) != std::string_view::npos &&
      shows_call(chat_template, begins_call);
}

std::unique_ptr<ToolCallParser> QwenJsonForm::make_parser(
    std::span<const ToolSignature>) const {
  return std::make_unique<QwenJsonCall>();
}

std::string QwenJsonForm::grammar(
    std::string_view rule,
    std::span<const ToolSignature> tools) const {
  std::string start = fmt::format("{}:", rule);
  std::string others;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string head = fmt::format(
        "\n{{\"name\": {}, \"arguments\": ",
        Json(tools[i].name)
            .dump(-1, ' ', false, Json::error_handler_t::replace));
    start += fmt::format("{} {}_{}", i == 0 ? "" : " |", rule, i);
    others += fmt::format(
        "{}_{}: {} {}_arguments_{} {}\n{}_arguments_{}: {}\n",
        rule,
        i,
        lark_string(head),
        rule,
        i,
        lark_string("}\n</tool_call>"),
        rule,
        i,
        lark_json(arguments_schema(tools[i])));
  }
  return start + "\n" + others;
}

} // namespace mlx_flash::parse
