#include "server/prompt_progress.h"

#include <algorithm>
#include <cmath>

namespace mlx_flash::server {

namespace {

// Seconds after which a change of speed shows by two thirds. Steps take from
// milliseconds to half a minute, so it is time that is averaged over and not
// steps.
constexpr double kMemorySeconds = 10;

} // namespace

PromptProgress PromptMeter::update(
    const GenerationProgress& progress,
    double now) {
  PromptProgress result;
  result.queue_position = progress.queue_position;
  result.prompt_tokens = progress.prompt_tokens;
  result.prompt_read = progress.prompt_read;
  result.cached_tokens = progress.cached_tokens;
  if (progress.queue_position > 0) {
    reading_ = false;
    rate_ = 0;
    return result;
  }
  if (!reading_) {
    // What is there already was not read at any speed.
    reading_ = true;
    read_ = progress.prompt_read;
    time_ = now;
  } else if (progress.prompt_read > read_ && now > time_) {
    const double seconds = now - time_;
    const double speed =
        static_cast<double>(progress.prompt_read - read_) / seconds;
    const double weight =
        rate_ == 0 ? 1 : 1 - std::exp(-seconds / kMemorySeconds);
    rate_ += weight * (speed - rate_);
    read_ = progress.prompt_read;
    time_ = now;
  }
  result.tokens_per_second = rate_;
  if (rate_ > 0) {
    const uint64_t left = progress.prompt_tokens -
        std::min(progress.prompt_tokens, progress.prompt_read);
    result.seconds_left = static_cast<double>(left) / rate_;
  }
  return result;
}

} // namespace mlx_flash::server
