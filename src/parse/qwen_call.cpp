#include "parse/qwen_call.h"

namespace mlx_flash::parse {

size_t QwenCall::push(std::string_view text, ToolCallEvents& events) {
  size_t taken = 0;
  while (taken < text.size() && state_ == State::reading) {
    if (!called_ && text_.size() == most_held_bytes_) {
      state_ = State::broken;
      break;
    }
    if (!take_any(text[taken], events)) {
      break;
    }
    if (!called_) {
      text_ += text[taken];
    }
    ++taken;
  }
  tell(events);
  return taken;
}

bool QwenCall::take_any(char byte, ToolCallEvents& events) {
  switch (phase_) {
    case Phase::call:
      return take(byte, events);
    case Phase::behind:
      return take_behind(byte);
    case Phase::skipping:
      return skip(byte);
  }
  return false;
}

bool QwenCall::take_behind(char byte) {
  const bool taken = end_.take(byte);
  take_rest();
  return taken;
}

bool QwenCall::skip(char byte) {
  end_.skip(byte);
  take_rest();
  return true;
}

void QwenCall::take_rest() {
  if (end_.over()) {
    text_ = end_.rest();
    state_ = State::complete;
  }
}

bool QwenCall::fail(char byte, ToolCallEvents& events) {
  if (!called_) {
    state_ = State::broken;
    return false;
  }
  end_early(events);
  phase_ = Phase::skipping;
  return skip(byte);
}

void QwenCall::begin(std::string_view name, ToolCallEvents& events) {
  events.on_call(name);
  called_ = true;
  text_.clear();
}

void QwenCall::end(ToolCallEvents& events) {
  events.on_call_end();
  ended_ = true;
}

void QwenCall::finish(ToolCallEvents& events) {
  if (state_ == State::reading) {
    end_early(events);
    state_ = called_ ? State::complete : State::broken;
  }
}

} // namespace mlx_flash::parse
