#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <string_view>

#include "base/error.h"

namespace mlx_flash::log {

// Of our own: a program that we are a part of keeps its default logger.
spdlog::logger& logger() {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "mlx-flash", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%n: %l: %v");
    made->set_level(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

void set_level(const char* level) {
  const std::string_view name = level;
  if (name == "error") {
    logger().set_level(spdlog::level::err);
  } else if (name == "warn") {
    logger().set_level(spdlog::level::warn);
  } else if (name == "info") {
    logger().set_level(spdlog::level::info);
  } else if (name == "debug") {
    logger().set_level(spdlog::level::debug);
  } else {
    fail(
        ErrorCode::invalid_argument,
        "[log] unknown level '{}'; use error, warn, info or debug",
        name);
  }
}

} // namespace mlx_flash::log
