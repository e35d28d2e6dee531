#include "parse/tool_form.h"

#include <array>

#include "parse/qwen_json_form.h"
#include "parse/qwen_xml_form.h"

namespace mlx_flash::parse {

std::span<const ToolForm* const> tool_forms() {
  static const QwenXmlForm qwen_xml;
  static const QwenJsonForm qwen_json;
  static const std::array<const ToolForm*, 2> forms = {&qwen_xml, &qwen_json};
  return forms;
}

const ToolForm* find_tool_form(std::string_view chat_template) {
  for (const ToolForm* form : tool_forms()) {
    if (form->is_taught_by(chat_template)) {
      return form;
    }
  }
  return nullptr;
}

} // namespace mlx_flash::parse
