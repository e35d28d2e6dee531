#include <cmath>

#include "base/error.h"
#include "generate/stop_strings.h"
#include "mlx_flash/generation.h"

namespace mlx_flash {

namespace {

// False for a NaN too.
bool within(float value, float low, float high) {
  return value >= low && value <= high;
}

void require(bool ok, const char* field, float value, const char* range) {
  if (!ok) {
    fail(
        ErrorCode::invalid_argument,
        "[sampling] {} is {}; it must be {}",
        field,
        value,
        range);
  }
}

} // namespace

void validate(const SamplingOptions& options) {
  const auto& o = options;
  require(
      std::isfinite(o.temperature) && o.temperature >= 0,
      "temperature",
      o.temperature,
      "a number from 0, which is greedy, upwards");
  if (o.top_k < 0) {
    fail(
        ErrorCode::invalid_argument,
        "[sampling] top_k is {}; it must be at least 1, or 0 for all tokens",
        o.top_k);
  }
  require(within(o.top_p, 0, 1), "top_p", o.top_p, "between 0 and 1");
  require(within(o.min_p, 0, 1), "min_p", o.min_p, "between 0 and 1");
  require(
      std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0,
      "repetition_penalty",
      o.repetition_penalty,
      "a number above 0; 1 changes nothing");
  const auto finite = [](const char* field, float value) {
    require(std::isfinite(value), field, value, "a number");
  };
  finite("presence_penalty", o.presence_penalty);
  finite("frequency_penalty", o.frequency_penalty);
  for (const LogitBias& each : o.logit_bias) {
    finite("logit_bias", each.bias);
  }
}

void validate(const GenerationOptions& options) {
  validate(options.sampling);
  if (options.max_tokens == 0) {
    fail(
        ErrorCode::invalid_argument,
        "[generate] max_tokens is 0; ask for at least one");
  }
  if (options.top_logprobs < 0 || options.top_logprobs > kMostTopLogprobs ||
      (options.top_logprobs > 0 && !options.logprobs)) {
    fail(
        ErrorCode::invalid_argument,
        "[generate] top_logprobs is {}; it must be 0 to {}, and 0 without "
        "logprobs",
        options.top_logprobs,
        kMostTopLogprobs);
  }
  const StopStrings stop_strings(options.stop_strings);
}

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "unknown";
}

} // namespace mlx_flash
