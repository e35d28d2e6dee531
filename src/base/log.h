// The program's log: stderr, one line an event; warnings unless told
// otherwise. Not for a command's output.
//
// A line stays a line whatever is logged: control characters, and bytes that
// are no UTF-8, are written as escapes.
#pragma once

#include <spdlog/spdlog.h>

namespace mlx_flash::log {

spdlog::logger& logger();

template <typename... Args>
void info(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().info(format, std::forward<Args>(args)...);
}

template <typename... Args>
void debug(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().debug(format, std::forward<Args>(args)...);
}

template <typename... Args>
void warn(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().warn(format, std::forward<Args>(args)...);
}

// "error", "warn", "info" or "debug"; throws Error(invalid_argument) else.
void set_level(const char* level);

// "text", "mlx-flash: warning: ...", or "json", an object a line:
// {"ts":"2026-11-22T22:07:00.123Z","level":"warning","msg":"..."}; throws
// Error(invalid_argument) else.
void set_format(const char* format);

} // namespace mlx_flash::log
