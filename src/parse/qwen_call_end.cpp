#include "parse/qwen_call_end.h"

#include "parse/space.h"

namespace mlx_flash::parse {

bool QwenCallEnd::take(char byte) {
  if (mark_.empty() && (is_space(byte) || byte == '}')) {
    return true;
  }
  mark_ += byte;
  over_ = mark_ == kQwenCallClose;
  if (kQwenCallClose.starts_with(mark_)) {
    return true;
  }
  mark_.pop_back();
  rest_ = mark_;
  over_ = true;
  return false;
}

void QwenCallEnd::skip(char byte) {
  mark_ += byte;
  if (mark_.size() > kQwenCallClose.size()) {
    mark_.erase(0, 1);
  }
  if (mark_.ends_with(kQwenCallOpen)) {
    rest_ = kQwenCallOpen;
    over_ = true;
  } else if (mark_ == kQwenCallClose) {
    over_ = true;
  }
}

} // namespace mlx_flash::parse
