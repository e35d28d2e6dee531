// Calls as Qwen3-Coder and Qwen3.5 write them, XML without escapes:
//
//   <tool_call>
//   <function=f>
//   <parameter=key>
//   value
//   </parameter>
//   </function>
//   </tool_call>
//
// Thread rule: immutable.
#pragma once

#include "parse/qwen_form.h"

namespace mlx_flash::parse {

class QwenXmlForm : public QwenForm {
 public:
  std::string_view name() const override {
    return "qwen-xml";
  }
  bool is_taught_by(std::string_view chat_template) const override;
  std::unique_ptr<ToolCallParser> make_parser(
      std::span<const ToolSignature> tools) const override;
  std::string grammar(
      std::string_view rule,
      std::span<const ToolSignature> tools) const override;
};

} // namespace mlx_flash::parse
