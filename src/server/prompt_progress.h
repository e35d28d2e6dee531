// How fast a prompt is being read, and how long that will take yet: what is
// shown to whoever waits for the first token.
//
// Thread rule: one thread at a time.
#pragma once

#include "mlx_flash/generation.h"
#include "server/job.h"

namespace mlx_flash::server {

class PromptMeter {
 public:
  // What the engine says at `now` (seconds). Reading begins when the queue
  // position is 0 for the first time, and again after it was not.
  PromptProgress update(const GenerationProgress& progress, double now);

 private:
  bool reading_ = false;
  uint64_t read_ = 0; // when `time_` was
  double time_ = 0;
  double rate_ = 0; // tokens per second, smoothed
};

} // namespace mlx_flash::server
