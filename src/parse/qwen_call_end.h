// The marks that enclose a call in both of Qwen's forms, and what comes between
// a call's own end and its closing mark.
//
// Thread rule: belongs to one call.
#pragma once

#include <string>
#include <string_view>

namespace mlx_flash::parse {

inline constexpr std::string_view kQwenCallOpen = "<tool_call>";
inline constexpr std::string_view kQwenCallClose = "</tool_call>";

class QwenCallEnd {
 public:
  // Behind a whole call: white space, closing braces too many, and the mark.
  // False for a byte that cannot belong to it: the call is over without one.
  bool take(char byte);
  // Behind the error in a call that was told in part: anything up to the
  // closing mark, or to the opening one of the next call.
  void skip(char byte);

  bool over() const {
    return over_;
  }
  // What was taken and is not of the call.
  const std::string& rest() const {
    return rest_;
  }

 private:
  bool over_ = false;
  std::string mark_;
  std::string rest_;
};

} // namespace mlx_flash::parse
