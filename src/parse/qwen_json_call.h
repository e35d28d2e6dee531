// Reads one call in Qwen's JSON form (qwen_json_form.h), from behind
// <tool_call> on.
//
//   {"name": "f", "arguments": {...}}
//   </tool_call>
//
// Of what models get wrong it takes: the two keys in any order, other keys,
// arguments as a string that holds the object or none at all, a brace too many
// or too few at the end. Arguments are told as the model wrote them.
//
// Thread rule: belongs to one answer.
#pragma once

#include <optional>

#include "parse/json_prefix.h"
#include "parse/qwen_call.h"

namespace mlx_flash::parse {

class QwenJsonCall : public QwenCall {
 public:
  // What may be read before a call can be told: its arguments where they come
  // before its name.
  static constexpr size_t kMostHeldBytes = 1u << 20;
  static constexpr size_t kMostNameBytes = 1024;

  QwenJsonCall() : QwenCall(kMostHeldBytes) {}

 private:
  enum class Step {
    start,
    first_key, // or the object's end
    key,
    in_key,
    colon,
    value,
    in_value,
    after, // a value
  };
  enum class Target { name, object, text, nothing, other };

  bool take(char byte, ToolCallEvents& events) override;
  void tell(ToolCallEvents& events) override;
  void end_early(ToolCallEvents& events) override;

  bool take_structure(char byte, ToolCallEvents& events);
  bool take_key(char byte, ToolCallEvents& events);
  bool take_value(char byte, ToolCallEvents& events);
  bool begin_value(char byte, ToolCallEvents& events);
  bool end_value(ToolCallEvents& events);
  bool end_object(ToolCallEvents& events);
  bool unwrap_arguments();
  void tell_all(ToolCallEvents& events);

  Step step_ = Step::start;
  JsonPrefix json_; // the key or value that is being read
  std::string raw_; // of a key or a name
  std::string key_;
  Target target_ = Target::other;

  std::optional<std::string> name_;
  std::string arguments_; // what was not told of them
  bool has_arguments_ = false;
  bool arguments_complete_ = false;
  size_t told_ = 0; // bytes of arguments
};

} // namespace mlx_flash::parse
