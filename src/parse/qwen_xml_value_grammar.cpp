#include "parse/qwen_xml_value_grammar.h"

#include <set>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "parse/json_types.h"
#include "parse/lark.h"
#include "parse/qwen_xml_call.h"
#include "parse/qwen_xml_value.h"
#include "parse/schema.h"

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kValueEnd = "\n</parameter>\n";
constexpr int kMostReferences = 16;
constexpr int kMostAlternatives = 256;
constexpr uint64_t kMostLength = 1u << 20;
// What an alternative counts as, whatever it adds to the grammar.
constexpr size_t kAlternativeBytes = 64;

using Words = std::set<std::string>;

const Words kOfTexts = {"minLength", "maxLength", "pattern"};

std::string upper(std::string text) {
  for (char& c : text) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return text;
}

class ValueGrammar {
 public:
  ValueGrammar(
      const StrictTool& tool,
      const std::string& property,
      const std::string& rule)
      : tool_(tool),
        property_(property),
        rule_(rule),
        types_(tool.signature.types->of(property_)) {}

  ValueRules rules(const Json& schema) {
    if (property_.empty() || property_.size() > QwenXmlCall::kMostNameBytes ||
        property_.find_first_of("<>\n") != std::string::npos) {
      reject("of a name that calls of this model cannot hold");
    }
    add(schema);
    if (has_text_ && has_limited_value_) {
      reject(
          "a text, or another value within limits. In this model's calls "
          "nothing tells them apart; allow one of both");
    }
    return {fmt::format("{}", fmt::join(options_, " | ")), std::move(rules_)};
  }

 private:
  [[noreturn]] void reject(const std::string& what) const {
    fail(
        ErrorCode::invalid_argument,
        "[tools] the parameter '{}' of the strict tool '{}' is {}",
        property_,
        tool_.signature.name,
        what);
  }

  void require_known(const Json& schema, const Words& known) const {
    const std::string keyword = other_keyword(schema, known);
    if (!keyword.empty()) {
      reject(fmt::format(
          "a text with '{}', which calls of this model cannot be held to",
          keyword));
    }
  }

  // `schema` is a part of the tool's: what is known of it is found again.
  void add(const Json& schema) {
    if (++added_ > kMostAlternatives) { // references may go in circles
      reject("of too many alternatives");
    }
    spend(kAlternativeBytes);
    static const Json any = Json::object();
    const Json& target = resolved(schema);
    const Json& whole = target == true ? any : target;
    if (!whole.is_object()) {
      reject("a schema that allows nothing");
    }
    const JsonTypes types = tool_.types.of(whole);
    if (!(types & kString)) {
      add_json(whole);
    } else if (other_keyword(whole, {"type"}).empty()) {
      add_text(any); // and whatever else is allowed
    } else if (whole.contains("enum") || whole.contains("const")) {
      add_literals(whole, types);
    } else if (whole.contains("anyOf") || whole.contains("oneOf")) {
      add_options(whole);
    } else {
      add_limited_text(whole);
    }
  }

  // Those of the types that the schema allows.
  void add_literals(const Json& schema, JsonTypes types) {
    if (schema.contains("const")) {
      require_known(schema, {"type", "const"});
      add_literal(schema["const"]);
      return;
    }
    require_known(schema, {"type", "enum"});
    for (const Json& value : list_of(schema, "enum")) {
      spend(kAlternativeBytes);
      if (type_of(value) & types) {
        add_literal(value);
      }
    }
  }

  void add_options(const Json& schema) {
    const char* keyword = schema.contains("anyOf") ? "anyOf" : "oneOf";
    require_known(schema, {keyword});
    const Json& options = list_of(schema, keyword);
    JsonTypes before = 0;
    for (const Json& each : options) {
      JsonTypes types = tool_.types.of(each);
      types |= types & (kInteger | kNumber) ? kInteger | kNumber : 0; // 1.0
      if (keyword == std::string_view("oneOf") && (before & types)) {
        reject(
            "of a 'oneOf' whose schemas allow values of the same type, which "
            "calls of this model cannot be held to; use 'anyOf' if both may "
            "apply");
      }
      before |= types;
      add(each);
    }
  }

  const Json& list_of(const Json& schema, const char* keyword) const {
    if (!schema[keyword].is_array()) {
      reject(fmt::format("of a schema whose '{}' is no list", keyword));
    }
    return schema[keyword];
  }

  // A text within limits, or values of other types, which these do not touch.
  void add_limited_text(const Json& schema) {
    Words known = kOfTexts;
    known.insert("type");
    require_known(schema, known);
    add_text(schema);
    if (!schema.contains("type") || !schema["type"].is_array()) {
      return;
    }
    for (const Json& type : schema["type"]) {
      spend(kAlternativeBytes);
      if (type != "string") {
        add_json(Json{{"type", type}});
      }
    }
  }

  const Json& resolved(const Json& schema) const {
    const Json* found = &schema;
    for (int i = 0; found->is_object() && found->contains("$ref"); ++i) {
      require_known(*found, {"$ref"});
      const Json& reference = (*found)["$ref"];
      found = tool_.types.target(reference);
      if (!found) {
        reject(fmt::format(
            "a reference to {}, which is not there", print(reference)));
      }
      if (i == kMostReferences) {
        reject("a reference that leads nowhere");
      }
    }
    return *found;
  }

  void add_json(const Json& schema) {
    // A format is of texts.
    if (!other_keyword(schema, {"type", "format"}).empty()) {
      has_limited_value_ = true;
    } else if (schema["type"] == "null") {
      // With its closing mark in one: a text may begin like it.
      add_literal(nullptr);
      return;
    }
    std::string json = lark_json(schema);
    if (json.find("\"$ref\"") != std::string::npos) {
      json = lark_json(with_definitions(schema));
    }
    const std::string name = new_rule();
    add_option(
        name + " " + lark_string(kValueEnd),
        fmt::format("{}: {}\n", name, json));
  }

  Json with_definitions(Json schema) const {
    for (const char* key : {"$defs", "definitions"}) {
      if (tool_.root.contains(key)) {
        schema[key] = tool_.root[key];
      }
    }
    return schema;
  }

  void add_literal(const Json& value) {
    const std::string text =
        value.is_string() ? value.get<std::string>() : print(value);
    QwenXmlValue reader(types_);
    std::string read;
    reader.push('\n', read);
    for (const char byte : text) {
      reader.push(byte, read);
    }
    reader.end(read);
    if (Json::parse(read, nullptr, false) != value ||
        text.find("</parameter>") != std::string::npos) {
      reject(fmt::format(
          "the value {}, which calls of this model cannot hold", print(value)));
    }
    add_option(lark_string(text + kValueEnd));
  }

  void add_text(const Json& schema) {
    has_text_ = true;
    std::string expression =
        lark_text_without({"(?s:.*)" + escape_regex("</parameter>")});
    if (schema.contains("minLength") || schema.contains("maxLength")) {
      const std::string least = length(schema, "minLength");
      expression += fmt::format(
          " & /(?s:.{{{},{}}})/",
          least.empty() ? "0" : least,
          length(schema, "maxLength"));
    }
    if (schema.contains("pattern")) {
      expression += " & " + search(schema["pattern"]);
    }
    const std::string name = upper(new_rule());
    add_option(
        name,
        fmt::format("{}: ({}) {}\n", name, expression, lark_string(kValueEnd)));
  }

  std::string length(const Json& schema, const char* key) const {
    if (!schema.contains(key)) {
      return "";
    }
    if (!schema[key].is_number_unsigned() || schema[key] > kMostLength) {
      reject(fmt::format("a text whose '{}' is no length", key));
    }
    return print(schema[key]);
  }

  // The expression for a text in which the pattern is found. It stands by
  // itself, so that a closing bracket too many cannot open what is around it.
  std::string search(const Json& pattern) const {
    if (!pattern.is_string()) {
      reject("a text whose 'pattern' is no text");
    }
    std::string regex = pattern.get<std::string>();
    const bool begins = regex.starts_with('^');
    const bool ends = regex.ends_with('$') && !regex.ends_with("\\$");
    if ((begins || ends) && regex.find('|') != std::string::npos) {
      reject(
          "a text with a 'pattern' of alternatives with '^' or '$', which "
          "calls of this model cannot be held to");
    }
    regex = regex.substr(begins, regex.size() - begins - ends);
    const std::string any = "/(?s:.*)/";
    return fmt::format(
        "({} {} {})",
        begins ? "" : any,
        lark_regex("(" + regex + ")"),
        ends ? "" : any);
  }

  void add_option(std::string option, const std::string& rule = "") {
    spend(option.size() + rule.size());
    options_.push_back(std::move(option));
    rules_ += rule;
  }

  // References may lead to the same large schema from everywhere.
  void spend(size_t bytes) const {
    if (bytes > tool_.room) {
      reject(
          "too much for the grammar of all strict tools together, in which "
          "what is referred to counts each time; refer to less");
    }
    tool_.room -= bytes;
  }

  std::string new_rule() const {
    return fmt::format("{}_v{}", rule_, options_.size());
  }

  const StrictTool& tool_;
  const std::string& property_;
  const std::string& rule_;
  const JsonTypes types_; // of the whole value: what it is read by
  int added_ = 0;
  std::vector<std::string> options_;
  std::string rules_;
  bool has_text_ = false; // that is not one of some
  bool has_limited_value_ = false; // that is no text
};

} // namespace

ValueRules value_rules(
    const StrictTool& tool,
    const std::string& property,
    const Json& schema,
    const std::string& rule) {
  return ValueGrammar(tool, property, rule).rules(schema);
}

} // namespace mlx_flash::parse
