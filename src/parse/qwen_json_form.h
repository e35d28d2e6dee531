// Calls as Qwen2.5, Qwen3 and Hermes write them, JSON in tags:
//
//   <tool_call>
//   {"name": "f", "arguments": {"key": "value"}}
//   </tool_call>
//
// Thread rule: immutable.
#pragma once

#include "parse/qwen_form.h"

namespace mlx_flash::parse {

class QwenJsonForm : public QwenForm {
 public:
  std::string_view name() const override {
    return "qwen-json";
  }
  bool is_taught_by(std::string_view chat_template) const override;
  std::unique_ptr<ToolCallParser> make_parser(
      std::span<const ToolSignature> tools) const override;
  std::string grammar(
      std::string_view rule,
      std::span<const ToolSignature> tools) const override;
};

} // namespace mlx_flash::parse
