// The program's log: stderr, one line an event. Not for a command's output.
#pragma once

#include <spdlog/spdlog.h>

namespace mlx_flash::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

// "error", "warn", "info" or "debug"; throws Error(invalid_argument) else.
void set_level(const char* level);

} // namespace mlx_flash::log
