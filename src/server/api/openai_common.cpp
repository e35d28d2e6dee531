#include "server/api/openai_common.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

Json token_object(const TokenText& token) {
  Json bytes = Json::array();
  for (const char c : token.bytes) {
    bytes.push_back(static_cast<uint8_t>(c));
  }
  return {
      {"token", token_name(token.bytes)},
      {"logprob", logprob_number(token.logprob)},
      {"bytes", std::move(bytes)},
  };
}

double milliseconds(double seconds) {
  return seconds * 1000;
}

// 0 where there is nothing to divide by.
double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

} // namespace

AnswerHead make_head(
    const char* prefix,
    const std::string& request_id,
    const std::string& model) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {
      prefix + request_id,
      model,
      std::chrono::duration_cast<std::chrono::seconds>(now).count()};
}

std::string to_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* finish_reason_word(ChoiceEnd::Reason reason) {
  switch (reason) {
    case ChoiceEnd::Reason::length:
      return "length";
    case ChoiceEnd::Reason::tool_calls:
      return "tool_calls";
    case ChoiceEnd::Reason::stop:
    case ChoiceEnd::Reason::cancelled:
      break;
  }
  return "stop";
}

Json usage_object(const Usage& usage) {
  return {
      {"prompt_tokens", usage.prompt_tokens},
      {"completion_tokens", usage.completion_tokens},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
      {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
      {"completion_tokens_details",
       {{"reasoning_tokens", usage.reasoning_tokens}}},
  };
}

Json timings_object(const Usage& usage, const Timings& timings) {
  const double read = static_cast<double>(
      usage.prompt_tokens - std::min(usage.cached_tokens, usage.prompt_tokens));
  const double made = static_cast<double>(usage.completion_tokens);
  const double prompt_ms = milliseconds(timings.prompt_seconds);
  const double decode_ms = milliseconds(timings.decode_seconds);
  return {
      {"cache_n", usage.cached_tokens},
      {"prompt_n", static_cast<uint64_t>(read)},
      {"prompt_ms", prompt_ms},
      {"prompt_per_token_ms", ratio(prompt_ms, read)},
      {"prompt_per_second", ratio(read, timings.prompt_seconds)},
      {"predicted_n", usage.completion_tokens},
      {"predicted_ms", decode_ms},
      {"predicted_per_token_ms", ratio(decode_ms, made)},
      {"predicted_per_second", ratio(made, timings.decode_seconds)},
      {"load_ms", milliseconds(timings.load_seconds)},
      {"queue_ms", milliseconds(timings.queue_seconds)},
      {"total_ms", milliseconds(timings.total_seconds)},
  };
}

Json progress_object(const PromptProgress& progress, double seconds) {
  return {
      {"total", progress.prompt_tokens},
      {"cache", progress.cached_tokens},
      {"processed", progress.prompt_read},
      {"time_ms", milliseconds(seconds)},
      {"queue_position", progress.queue_position},
      {"seconds_left", progress.seconds_left},
  };
}

std::string progress_words(const PromptProgress& progress) {
  if (progress.queue_position > 0) {
    return fmt::format("waiting, {} before", progress.queue_position);
  }
  if (progress.prompt_tokens == 0) {
    return "waiting";
  }
  std::string words = fmt::format(
      "prompt {} of {} tokens", progress.prompt_read, progress.prompt_tokens);
  if (progress.tokens_per_second > 0) {
    words += fmt::format(
        ", {:.1f} tokens/s, {:.0f} s left",
        progress.tokens_per_second,
        progress.seconds_left);
  }
  return words;
}

Json logprobs_object(std::span<const TokenText> tokens) {
  Json content = Json::array();
  for (const TokenText& token : tokens) {
    Json object = token_object(token);
    Json& top = object["top_logprobs"] = Json::array();
    for (const TokenText& each : token.top) {
      top.push_back(token_object(each));
    }
    content.push_back(std::move(object));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

std::string token_name(std::string_view bytes) {
  if (is_utf8(bytes)) {
    return std::string(bytes);
  }
  std::string name;
  while (!bytes.empty()) {
    if (const size_t length = first_character(bytes).bytes) {
      name += bytes.substr(0, length);
      bytes.remove_prefix(length);
    } else {
      name += fmt::format("\\x{:02x}", static_cast<uint8_t>(bytes[0]));
      bytes.remove_prefix(1);
    }
  }
  return name;
}

double logprob_number(double logprob) {
  // What OpenAI gives for tokens that cannot be.
  return logprob >= -9999.0 ? logprob : -9999.0;
}

} // namespace mlx_flash::server
