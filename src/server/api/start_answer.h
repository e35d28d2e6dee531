// From a job to its generation, for the routes of all dialects: whatever goes
// wrong is told to the sink, and a client that goes away ends the work.
//
// Thread rule: any thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "server/api/context.h"

namespace mlx_flash::server {

// The generations of one request.
class RunningJobs {
 public:
  // Cancels it at once if cancel() was called before.
  void add(std::shared_ptr<Generation> generation);
  void cancel();

 private:
  std::mutex mutex_;
  bool cancelled_ = false;
  std::vector<std::shared_ptr<Generation>> running_;
};

// `sink` must be ready to be called on the loop.
void start_answer(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    Job job,
    const std::shared_ptr<AnswerSink>& sink);

// One of several jobs of a request: who owns `running` cancels them when the
// client goes away.
void start_answer(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    Job job,
    const std::shared_ptr<AnswerSink>& sink,
    RunningJobs& running);

} // namespace mlx_flash::server
