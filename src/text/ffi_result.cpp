#include "text/ffi_result.h"

#include <memory>

#include "base/error.h"

namespace mlx_flash {

namespace {

ErrorCode error_code(int32_t kind) {
  switch (kind) {
    case TF_INVALID_ARGUMENT:
      return ErrorCode::invalid_argument;
    case TF_UNSUPPORTED:
      return ErrorCode::unsupported;
    case TF_NO_MEMORY:
      return ErrorCode::out_of_budget;
    default:
      return ErrorCode::bad_model;
  }
}

} // namespace

void FfiCall::check(std::string_view where, std::string_view advice) const {
  if (!error_.message) {
    return;
  }
  const std::string_view separator = advice.empty() ? "" : "; ";
  fail(
      error_code(error_.kind),
      "[{}] {}{}{}",
      where,
      error_.message,
      separator,
      advice);
}

std::string take_text(TfBytes bytes) {
  const auto release = [](TfBytes* owned) { tf_bytes_free(*owned); };
  std::unique_ptr<TfBytes, decltype(release)> owner(&bytes, release);
  if (bytes.length == 0) {
    return {};
  }
  return {reinterpret_cast<const char*>(bytes.data), bytes.length};
}

std::vector<uint32_t> take_ids(TfIds ids) {
  const auto release = [](TfIds* owned) { tf_ids_free(*owned); };
  std::unique_ptr<TfIds, decltype(release)> owner(&ids, release);
  if (ids.length == 0) {
    return {};
  }
  return {ids.data, ids.data + ids.length};
}

} // namespace mlx_flash
