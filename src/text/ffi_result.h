// What functions of text-ffi return, as values and exceptions. For the sources
// of src/text only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text_ffi.h"

namespace mlx_flash {

// Receives the error of one call: pass error(), then check().
class FfiCall {
 public:
  FfiCall() = default;
  ~FfiCall() {
    tf_message_free(error_.message);
  }
  FfiCall(const FfiCall&) = delete;
  FfiCall& operator=(const FfiCall&) = delete;

  TfError* error() {
    return &error_;
  }

  // Throws the error if there is one, as "[where] reason; advice".
  void check(std::string_view where, std::string_view advice = {}) const;

 private:
  TfError error_{};
};

std::string take_text(TfBytes bytes);
std::vector<uint32_t> take_ids(TfIds ids);

} // namespace mlx_flash
