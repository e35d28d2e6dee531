// What reading a call has in common in both of Qwen's forms: how long its text
// is kept, its end, and what becomes of one that breaks off.
//
// Thread rule: belongs to one answer.
#pragma once

#include <string>
#include <string_view>

#include "parse/qwen_call_end.h"
#include "parse/tool_form.h"

namespace mlx_flash::parse {

class QwenCall : public ToolCallParser {
 public:
  size_t push(std::string_view text, ToolCallEvents& events) override;
  State state() const override {
    return state_;
  }
  bool called() const override {
    return called_;
  }
  const std::string& text() const override {
    return text_;
  }
  void finish(ToolCallEvents& events) override;

 protected:
  // At most so many bytes are read before a call can be told.
  explicit QwenCall(size_t most_held_bytes)
      : most_held_bytes_(most_held_bytes) {}

  // A byte of the call itself; false for one that is not the call's.
  virtual bool take(char byte, ToolCallEvents& events) = 0;
  // What is certain of the arguments.
  virtual void tell(ToolCallEvents& events) = 0;
  // Arguments that were begun become JSON.
  virtual void end_early(ToolCallEvents& events) = 0;

  // The call has its name.
  void begin(std::string_view name, ToolCallEvents& events);
  // Its arguments were told.
  void end(ToolCallEvents& events);
  // Nothing but the closing mark is left; or there is not even that.
  void expect_closing_mark() {
    phase_ = Phase::behind;
  }
  bool take_behind(char byte);
  void complete() {
    state_ = State::complete;
  }
  // What `take` returns for a byte that cannot be.
  bool fail(char byte, ToolCallEvents& events);

  bool ended() const {
    return ended_;
  }

 private:
  enum class Phase {
    call,
    behind, // its own end: the closing mark
    skipping, // what is left of a call that was ended before its end
  };
  bool take_any(char byte, ToolCallEvents& events);
  bool skip(char byte);
  void take_rest();

  const size_t most_held_bytes_;
  State state_ = State::reading;
  Phase phase_ = Phase::call;
  std::string text_;
  QwenCallEnd end_;
  bool called_ = false;
  bool ended_ = false;
};

} // namespace mlx_flash::parse
