// Reads one call in Qwen's XML form (qwen_xml_form.h), from behind <tool_call>
// on.
//
//   <function=f>
//   <parameter=key>
//   value
//   </parameter>
//   </function>
//   </tool_call>
//
// The form has no escapes, so a value may contain its own closing mark: that
// ends it only where a parameter or the function's end follows.
//
// Thread rule: belongs to one answer.
#pragma once

#include <optional>
#include <set>

#include "parse/qwen_call_end.h"
#include "parse/qwen_xml_value.h"
#include "parse/tool_form.h"

namespace mlx_flash::parse {

class QwenXmlCall : public ToolCallParser {
 public:
  static constexpr size_t kMostNameBytes = 256; // of functions and parameters
  static constexpr size_t kMostParameters = 256;
  // Before the function's name.
  static constexpr size_t kMostHeldBytes = 4096;

  // `tools` must outlive it.
  explicit QwenXmlCall(std::span<const ToolSignature> tools) : tools_(tools) {}

  size_t push(std::string_view text, ToolCallEvents& events) override;
  State state() const override {
    return state_;
  }
  const std::string& text() const override {
    return text_;
  }
  void finish(ToolCallEvents& events) override;

 private:
  enum class Step {
    start,
    function_name,
    body,
    parameter_name,
    value,
    behind, // the function: the closing mark
    skipping, // what is left of a call that was ended before its end
  };

  // False for a byte that is not the call's.
  bool take(char byte, ToolCallEvents& events);
  bool take_start(char byte);
  bool take_name(char byte, ToolCallEvents& events);
  bool take_body(char byte, ToolCallEvents& events);
  void take_value(char byte, ToolCallEvents& events);
  bool take_behind(char byte);
  bool skip(char byte);
  bool fail(char byte, ToolCallEvents& events);

  void begin_call(ToolCallEvents& events);
  bool begin_value();
  void take_mark(std::string_view mark, ToolCallEvents& events);
  void add_value();
  void end_value();
  void end_call(ToolCallEvents& events);
  void tell(ToolCallEvents& events);
  void end_early(ToolCallEvents& events);

  const std::span<const ToolSignature> tools_;
  State state_ = State::reading;
  Step step_ = Step::start;
  std::string text_;
  QwenCallEnd end_;

  std::string mark_; // what may be a mark's beginning
  std::string name_; // that is being read
  PropertyTypes types_{""};
  std::set<std::string> parameters_; // that there were

  std::optional<QwenXmlValue> value_;
  std::string value_json_; // what was not added to the arguments yet
  std::string value_prefix_; // the key and what comes before it
  bool repeated_ = false; // a parameter that there was: it is read and dropped
  std::string arguments_; // what was not told of them
  bool called_ = false;
  bool ended_ = false;
};

} // namespace mlx_flash::parse
