#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log_format.h"

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

// Such as "2026-11-22T22:07:00.123Z".
std::string utc(std::chrono::system_clock::time_point moment) {
  using namespace std::chrono;
  const auto milliseconds =
      duration_cast<std::chrono::milliseconds>(moment.time_since_epoch())
          .count();
  const auto seconds = static_cast<std::time_t>(milliseconds / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
      parts.tm_year + 1900,
      parts.tm_mon + 1,
      parts.tm_mday,
      parts.tm_hour,
      parts.tm_min,
      parts.tm_sec,
      milliseconds % 1000);
}

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const log_msg& message, spdlog::memory_buf_t& out) override {
    std::string line = fmt::format(
        R"({{"ts":"{}","level":"{}","msg":)",
        utc(message.time),
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
