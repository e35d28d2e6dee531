#include "parse/qwen_xml_form.h"

#include <fmt/format.h>

#include "parse/lark.h"
#include "parse/qwen_xml_call.h"
#include "parse/qwen_xml_strict.h"

namespace mlx_flash::parse {

namespace {

// From the mark to the function in a template's source: a line end, which may
// be spelled out.
constexpr size_t kMostBetween = 4;

// Of a grammar what strict parameters make, which may be far more than their
// schemas have.
constexpr size_t kMostStrictBytes = 4u << 20;

// Any parameters with any texts.
std::string free_parameters(const std::string& name) {
  std::string text = name;
  for (char& c : text) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return fmt::format(
      "{0}: \"<parameter=\" /[^<>\\n]{{1,64}}/ \">\\n\" {1}\n{1}: ({2}) {3}\n",
      name,
      text,
      lark_text_without({"(?s:.*)" + escape_regex("</parameter>")}),
      lark_string("\n</parameter>\n"));
}

} // namespace

bool QwenXmlForm::is_taught_by(std::string_view chat_template) const {
  return chat_template.find("</parameter>") != std::string_view::npos &&
      shows_call(chat_template, [](std::string_view text) {
           return text.find("<function=") <= kMostBetween;
         });
}

std::unique_ptr<ToolCallParser> QwenXmlForm::make_parser(
    std::span<const ToolSignature> tools) const {
  return std::make_unique<QwenXmlCall>(tools);
}

std::string QwenXmlForm::grammar(
    std::string_view rule,
    std::span<const ToolSignature> tools) const {
  const std::string any = fmt::format("{}_any", rule);
  bool needs_any = false;
  size_t room = kMostStrictBytes;
  std::string start = fmt::format("{}:", rule);
  std::string others;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string name = fmt::format("{}_{}", rule, i);
    std::string parameters = any + "*";
    if (tools[i].strict && !tools[i].parameters.empty()) {
      StrictParameters strict = strict_parameters(name, tools[i], room);
      parameters = std::move(strict.sequence);
      others += strict.rules;
    } else {
      needs_any = true;
    }
    start += fmt::format("{} {}", i == 0 ? "" : " |", name);
    others += fmt::format(
        "{}: {} {} {}\n",
        name,
        lark_string("\n<function=" + tools[i].name + ">\n"),
        parameters,
        lark_string("</function>\n</tool_call>"));
  }
  return start + "\n" + others + (needs_any ? free_parameters(any) : "");
}

} // namespace mlx_flash::parse
