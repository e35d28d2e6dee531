#include "server/answer_times.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace mlx_flash::server {

Timings AnswerTimes::timings(double now) const {
  const double loaded_at = loaded.value_or(now);
  const double reading_at = reading.value_or(now);
  const double first_at = first_token.value_or(now);
  const double last_at = last_token.value_or(first_at);
  const auto between = [](double begin, double end) {
    return std::max(0.0, end - begin);
  };
  Timings result;
  result.load_seconds = between(begun, loaded_at);
  result.queue_seconds = between(loaded_at, reading_at);
  result.prompt_seconds = between(reading_at, first_at);
  result.decode_seconds = between(first_at, last_at);
  result.total_seconds = between(received, now);
  return result;
}

AnswerFigures figures_of(const Usage& usage, const Timings& timings) {
  return {
      usage.prompt_tokens,
      usage.cached_tokens,
      usage.completion_tokens,
      timings.load_seconds,
      timings.queue_seconds,
      timings.prompt_seconds,
      timings.decode_seconds,
      timings.total_seconds};
}

void log_if_slow(const ServerOptions& options, const EndedAnswer& answer) {
  const Timings& timings = answer.timings;
  if (options.slow_seconds <= 0 ||
      timings.total_seconds <= options.slow_seconds) {
    return;
  }
  log::warn(
      "[slow] request {} to {} {} after {:.3f} s: load {:.3f} s, queue {:.3f} "
      "s, prompt {:.3f} s ({} tokens, {} of them cached), decoding {:.3f} s "
      "({} tokens){}",
      answer.request_id,
      answer.model.empty() ? "a model that was not there" : answer.model,
      answer.end,
      timings.total_seconds,
      timings.load_seconds,
      timings.queue_seconds,
      timings.prompt_seconds,
      answer.usage.prompt_tokens,
      answer.usage.cached_tokens,
      timings.decode_seconds,
      answer.usage.completion_tokens,
      options.log_prompts ? fmt::format("; prompt: {}", answer.prompt)
                          : std::string());
}

} // namespace mlx_flash::server
