// What both of Qwen's forms have in common: the marks around a call.
//
// Thread rule: immutable.
#pragma once

#include "parse/qwen_call_end.h"
#include "parse/tool_form.h"

namespace mlx_flash::parse {

class QwenForm : public ToolForm {
 public:
  std::string_view opening_mark() const override {
    return kQwenCallOpen;
  }
  std::string_view closing_mark() const override {
    return kQwenCallClose;
  }
};

// Whether something of `text` that follows an opening mark is a call's
// beginning, as `begins_call` tells it.
template <typename BeginsCall>
bool shows_call(std::string_view text, const BeginsCall& begins_call) {
  for (size_t at = text.find(kQwenCallOpen); at != std::string_view::npos;
       at = text.find(kQwenCallOpen, at + 1)) {
    if (begins_call(text.substr(at + kQwenCallOpen.size()))) {
      return true;
    }
  }
  return false;
}

} // namespace mlx_flash::parse
