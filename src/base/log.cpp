#include "base/log.h"

#include <string_view>

#include "base/error.h"

namespace mlx_flash::log {

void set_level(const char* level) {
  const std::string_view name = level;
  if (name == "error") {
    spdlog::set_level(spdlog::level::err);
  } else if (name == "warn") {
    spdlog::set_level(spdlog::level::warn);
  } else if (name == "info") {
    spdlog::set_level(spdlog::level::info);
  } else if (name == "debug") {
    spdlog::set_level(spdlog::level::debug);
  } else {
    fail(
        ErrorCode::invalid_argument,
        "[log] unknown level '{}'; use error, warn, info or debug",
        name);
  }
}

} // namespace mlx_flash::log
