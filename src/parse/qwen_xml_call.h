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

#include "parse/qwen_call.h"
#include "parse/qwen_xml_value.h"

namespace mlx_flash::parse {

class QwenXmlCall : public QwenCall {
 public:
  static constexpr size_t kMostNameBytes = 256; // of functions and parameters
  static constexpr size_t kMostParameters = 256;
  // Before the function's name.
  static constexpr size_t kMostHeldBytes = 4096;

  // `tools` must outlive it.
  explicit QwenXmlCall(std::span<const ToolSignature> tools)
      : QwenCall(kMostHeldBytes), tools_(tools) {}

  void finish(ToolCallEvents& events) override;

 private:
  enum class Step {
    start,
    function_name,
    body,
    parameter_name,
    value,
  };

  bool take(char byte, ToolCallEvents& events) override;
  void tell(ToolCallEvents& events) override;
  void end_early(ToolCallEvents& events) override;

  bool take_start(char byte);
  bool take_name(char byte, ToolCallEvents& events);
  bool take_body(char byte, ToolCallEvents& events);
  void take_value(char byte, ToolCallEvents& events);

  void begin_call(ToolCallEvents& events);
  bool begin_value();
  void take_mark(std::string_view mark, ToolCallEvents& events);
  void add_value();
  void end_value();
  void end_call(ToolCallEvents& events);

  const std::span<const ToolSignature> tools_;
  Step step_ = Step::start;

  std::string mark_; // what may be a mark's beginning
  std::string name_; // that is being read
  const PropertyTypes* types_ = nullptr; // null: of a tool that there is not
  std::set<std::string> parameters_; // that there were

  std::optional<QwenXmlValue> value_;
  std::string value_json_; // what was not added to the arguments yet
  std::string value_prefix_; // the key and what comes before it
  bool repeated_ = false; // a parameter that there was: it is read and dropped
  std::string arguments_; // what was not told of them
};

} // namespace mlx_flash::parse
