// Throwing mlx_flash::Error with a formatted message.
#pragma once

#include <fmt/format.h>

#include "mlx_flash/error.h"

namespace mlx_flash {

template <typename... Args>
[[noreturn]] void
fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

} // namespace mlx_flash
