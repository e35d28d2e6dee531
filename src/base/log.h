// The program's log: stderr, one line an event; warnings unless told
// otherwise. Not for a command's output.
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

} // namespace mlx_flash::log
