// Checks for our own mistakes. No file, flag or request may reach one: bad
// input is an Error (base/error.h).
#pragma once

namespace mlx_flash::detail {
[[noreturn]] void
check_failed(const char* condition, const char* file, int line);
}

#define MLX_FLASH_CHECK(condition) \
  (static_cast<bool>(condition)    \
       ? void(0)                   \
       : ::mlx_flash::detail::check_failed(#condition, __FILE__, __LINE__))

// Only in builds with assertions: the dev, asan and tsan presets.
#ifdef NDEBUG
#define MLX_FLASH_DCHECK(condition) (void(sizeof(condition)))
#else
#define MLX_FLASH_DCHECK(condition) MLX_FLASH_CHECK(condition)
#endif
