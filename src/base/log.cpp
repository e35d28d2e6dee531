#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log_format.h"
#include "base/rfc3339.h"

namespace mlx_flash::log {

namespace {

using spdlog::details::log_msg;

std::string_view view(spdlog::string_view_t text) {
  return {text.data(), text.size()};
}

class TextFormatter : public spdlog::formatter {
 public:
  void format(const log_msg& message, spdlog::memory_buf_t& out) override {
    std::string line = fmt::format(
        "{}: {}: ",
        view(message.logger_name),
        view(spdlog::level::to_string_view(message.level)));
    append_line_text(line, view(message.payload));
    line += '\n';
    out.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }
};

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const log_msg& message, spdlog::memory_buf_t& out) override {
    std::string line = fmt::format(
        R"({{"ts":"{}","level":"{}","msg":)",
        rfc3339(message.time, 3),
        view(spdlog::level::to_string_view(message.level)));
    append_json_text(line, view(message.payload));
    line += "}\n";
    out.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

} // namespace

// Of our own: a program that we are a part of keeps its default logger.
spdlog::logger& logger() {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "mlx-flash", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_formatter(std::make_unique<TextFormatter>());
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

void set_format(const char* format) {
  const std::string_view name = format;
  if (name == "text") {
    logger().set_formatter(std::make_unique<TextFormatter>());
  } else if (name == "json") {
    logger().set_formatter(std::make_unique<JsonFormatter>());
  } else {
    fail(
        ErrorCode::invalid_argument,
        "[log] unknown format '{}'; use text or json",
        name);
  }
}

} // namespace mlx_flash::log
