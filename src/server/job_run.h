// What generations.cpp has to do with a job on its way, whatever its answer is
// made of.
//
// Thread rule: any thread, but for what says otherwise.
#pragma once

#include "server/generations.h"

namespace mlx_flash::server {

class JobRun : public Generation {
 public:
  virtual void begin() = 0;
  virtual void end_with(const ApiError& error) = 0;
  // Without a word. Nothing else may be going on: the loop has stopped.
  virtual void abandon() = 0;
  virtual Generations::Running status() const = 0;
};

} // namespace mlx_flash::server
