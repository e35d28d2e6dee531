#include "engine/request.h"

namespace mlx_flash {

std::exception_ptr make_error(ErrorCode code, const std::string& message) {
  return std::make_exception_ptr(Error(code, message));
}

std::exception_ptr current_error() {
  try {
    throw;
  } catch (const Error&) {
    return std::current_exception();
  } catch (const std::exception& other) {
    return make_error(
        ErrorCode::internal, fmt::format("[engine] {}", other.what()));
  }
}

} // namespace mlx_flash
