#include "cli/serve_flags.h"

#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "base/read_file.h"

namespace mlx_flash::cli {

using server::ServerLimits;

const std::vector<ServeFlags::Count>& ServeFlags::counts() {
  constexpr uint64_t kMany = 1u << 30;
  static const std::vector<Count> all{
      {"--parallel",
       &ServerLimits::parallel,
       1,
       1024,
       "Answers in progress at once"},
      {"--queue", &ServerLimits::queue, 0, 1024, "Requests that wait"},
      {"--max-connections",
       &ServerLimits::connections,
       1,
       65536,
       "Open connections"},
      {"--max-header-bytes",
       &ServerLimits::header_bytes,
       1024,
       kMany,
       "Of a request"},
      {"--max-body-bytes",
       &ServerLimits::body_bytes,
       1024,
       kMany,
       "Of a request"},
      {"--max-all-body-bytes",
       &ServerLimits::all_body_bytes,
       1024,
       uint64_t{1} << 40,
       "Of all requests in memory"},
      {"--max-unsent-bytes",
       &ServerLimits::unsent_bytes,
       65536,
       kMany,
       "That wait for a slow reader"},
      {"--max-all-unsent-bytes",
       &ServerLimits::all_unsent_bytes,
       65536,
       uint64_t{1} << 40,
       "That wait for all readers"},
      {"--max-json-depth",
       &ServerLimits::json_depth,
       8,
       256,
       "Of a request's body"},
      {"--max-json-values",
       &ServerLimits::json_values,
       64,
       kMany,
       "Of a request's body, of all kinds"},
      {"--max-messages",
       &ServerLimits::messages,
       1,
       kMany,
       "Of a conversation"},
      {"--max-tools", &ServerLimits::tools, 0, 65536, "Of a request"},
      {"--max-choices",
       &ServerLimits::choices,
       1,
       256,
       "Answers to one prompt (n)"},
      {"--max-answer-tokens",
       &ServerLimits::max_tokens,
       1,
       kMany,
       "Of one answer"},
      {"--max-stops",
       &ServerLimits::stop_strings,
       1,
       1024,
       "Stop strings of a request"},
      {"--max-stop-bytes",
       &ServerLimits::stop_string_bytes,
       1,
       65536,
       "Of a stop string"},
      {"--max-logit-bias",
       &ServerLimits::logit_bias,
       0,
       1024,
       "Entries of logit_bias"},
      {"--max-schema-bytes",
       &ServerLimits::schema_bytes,
       64,
       1u << 24,
       "Of a schema, a regular expression or a grammar"},
      {"--max-grammar-cost",
       &ServerLimits::grammar_cost,
       1000,
       uint64_t{1} << 32,
       "Of compiling one of these, in steps; 50,000 take about a millisecond"},
      {"--max-embeddings",
       &ServerLimits::embedding_inputs,
       1,
       65536,
       "Inputs of a request for embeddings"},
      {"--max-stored",
       &ServerLimits::stored_responses,
       0,
       1u << 20,
       "Responses that can be gone on from"},
      {"--max-stored-bytes",
       &ServerLimits::stored_response_bytes,
       0,
       uint64_t{1} << 40,
       "Of all of these"},
      {"--max-replayed-bytes",
       &ServerLimits::replayed_bytes,
       0,
       uint64_t{1} << 40,
       "Of answers that may be sent back"},
  };
  return all;
}

const std::vector<ServeFlags::Seconds>& ServeFlags::seconds() {
  // A connection without such a time could be held for ever.
  constexpr double kLeast = 0.1;
  static const std::vector<Seconds> all{
      {"--request-timeout",
       &ServerLimits::request_seconds,
       0,
       "Seconds for a whole answer; 0: no limit, as by default"},
      {"--drain-timeout",
       &ServerLimits::drain_seconds,
       0,
       "Seconds for answers in progress, when stopping; 0: they end at once"},
      {"--header-timeout",
       &ServerLimits::header_seconds,
       kLeast,
       "Seconds for a request's headers"},
      {"--body-timeout",
       &ServerLimits::body_seconds,
       kLeast,
       "Seconds for a request's body"},
      {"--idle-timeout",
       &ServerLimits::idle_seconds,
       kLeast,
       "Seconds between two requests of a connection"},
      {"--write-timeout",
       &ServerLimits::write_seconds,
       kLeast,
       "Seconds without progress of a slow reader"},
  };
  return all;
}

void ServeFlags::declare(Flags& flags) {
  flags.texts(
      "--alias", aliases_, "NAME", "Another name that clients may ask for");
  flags.texts(
      "--also",
      more_models_,
      "FOLDER",
      "One more model, loaded when asked for in place of the other");
  flags.pair(
      "--prompt-cache",
      prompt_cache_,
      "FOLDER SIZE",
      "Keep what was read of prompts on disk, such as ~/prompts 20GB");
  flags.group("Address and access");
  flags.text("--host", host_, "ADDRESS", "To listen at (default: 127.0.0.1)");
  flags.count("--port", port_, 0, 65535, "Default: 8080; 0: any that is free");
  flags.text(
      "--api-key",
      api_key_,
      "KEY",
      "That requests must carry (or MLX_FLASH_API_KEY in the environment)");
  flags.text("--api-key-file", api_key_file_, "FILE", "The same from a file");
  flags.texts(
      "--allowed-host",
      allowed_hosts_,
      "NAME",
      "A name in Host headers, beside localhost and the address");
  flags.texts(
      "--allowed-origin",
      allowed_origins_,
      "ORIGIN",
      "Whose web pages may ask, such as https://chat.example.org");
  flags.group("Service");
  flags.number(
      "--keep-minutes",
      keep_minutes_,
      "Minutes without a request until the model is let go; 0: never, as by "
      "default");
  flags.number(
      "--keep-alive-seconds",
      keep_alive_seconds_,
      "Between signs of life while a client waits; 0: none (default: 5)");
  flags.choice("--log-format", log_format_, {"text", "json"}, "Default: text");
  flags.number(
      "--slow-seconds",
      slow_seconds_,
      "Answers that take longer are logged; 0: none (default: 30)");
  flags.toggle("--log-prompts", log_prompts_, "With their prompts");
  declare_limits(flags);
}

void ServeFlags::declare_limits(Flags& flags) {
  flags.group("Limits (smaller in a small budget, if they take memory)");
  const ServerLimits defaults;
  count_values_.resize(counts().size());
  seconds_values_.resize(seconds().size());
  for (size_t i = 0; i < counts().size(); ++i) {
    const Count& each = counts()[i];
    const std::string help =
        fmt::format("{} (default: {})", each.help, defaults.*each.limit);
    flags.count(
        each.flag, count_values_[i], each.least, each.most, help.c_str());
  }
  for (size_t i = 0; i < seconds().size(); ++i) {
    const Seconds& each = seconds()[i];
    const double value = defaults.*each.limit;
    const std::string help = value > 0
        ? fmt::format("{} (default: {})", each.help, value)
        : each.help;
    flags.number(each.flag, seconds_values_[i], help.c_str());
  }
}

namespace {

double in_range(const char* flag, float value, double least = 0) {
  if (!(value >= static_cast<float>(least) && value <= 1e6f)) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] {} takes a number from {} to 1000000, not {}",
        flag,
        least,
        value);
  }
  return value;
}

} // namespace

void ServeFlags::set_prompt_cache(EngineOptions& options) const {
  if (!prompt_cache_) {
    return;
  }
  const auto& [folder, size] = *prompt_cache_;
  if (folder.empty() || size.find('%') != std::string::npos) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] --prompt-cache takes a folder and a size, such as 20GB, not "
        "'{}' and '{}'",
        folder,
        size);
  }
  options.prompt_cache = folder;
  options.prompt_cache_bytes = parse_memory_size(size, 0);
}

std::string ServeFlags::api_key() const {
  if (api_key_ && api_key_file_) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] --api-key and --api-key-file are both given; leave one out");
  }
  const char* environment = std::getenv("MLX_FLASH_API_KEY");
  std::string key = api_key_ ? *api_key_
      : api_key_file_        ? read_file(*api_key_file_, 4096)
      : environment          ? environment
                             : "";
  while (key.ends_with('\n') || key.ends_with('\r')) {
    key.pop_back();
  }
  if (key.empty() && (api_key_ || api_key_file_)) {
    fail(ErrorCode::invalid_argument, "[flags] the API key is empty");
  }
  return key;
}

server::ServerOptions ServeFlags::options() const {
  log::set_format(log_format_.value_or("text").c_str());
  server::ServerOptions options;
  options.host = host_.value_or(options.host);
  options.port = static_cast<uint16_t>(port_.value_or(options.port));
  options.api_key = api_key();
  options.allowed_hosts = allowed_hosts_;
  options.allowed_origins = allowed_origins_;
  options.log_prompts = log_prompts_;
  if (keep_minutes_) {
    options.keep_seconds = 60 * in_range("--keep-minutes", *keep_minutes_);
  }
  if (slow_seconds_) {
    options.slow_seconds = in_range("--slow-seconds", *slow_seconds_);
  }
  if (keep_alive_seconds_) {
    const float seconds = *keep_alive_seconds_;
    options.keep_alive_seconds =
        seconds == 0 ? 0 : in_range("--keep-alive-seconds", seconds, 0.1);
  }
  return options;
}

ServerLimits ServeFlags::limits(ServerLimits usual) const {
  for (size_t i = 0; i < counts().size(); ++i) {
    uint64_t& limit = usual.*counts()[i].limit;
    limit = count_values_[i].value_or(limit);
  }
  for (size_t i = 0; i < seconds().size(); ++i) {
    if (seconds_values_[i]) {
      usual.*seconds()[i].limit =
          in_range(seconds()[i].flag, *seconds_values_[i], seconds()[i].least);
    }
  }
  return usual;
}

} // namespace mlx_flash::cli
