#include "server/api/start_answer.h"

#include <utility>

namespace mlx_flash::server {

void RunningJobs::add(std::shared_ptr<Generation> generation) {
  std::unique_lock lock(mutex_);
  if (!cancelled_) {
    running_.push_back(std::move(generation));
    return;
  }
  lock.unlock();
  generation->cancel();
}

void RunningJobs::cancel() {
  std::unique_lock lock(mutex_);
  cancelled_ = true;
  const auto running = std::exchange(running_, {});
  lock.unlock(); // for they may call back
  for (const auto& each : running) {
    each->cancel();
  }
}

void start_answer(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    Job job,
    const std::shared_ptr<AnswerSink>& sink) {
  const auto running = std::make_shared<RunningJobs>();
  exchange->on_disconnect([running] { running->cancel(); });
  start_answer(context, exchange, std::move(job), sink, *running);
}

void start_answer(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    Job job,
    const std::shared_ptr<AnswerSink>& sink,
    RunningJobs& running) {
  try {
    running.add(context.generations.start(
        std::move(job), exchange->request().received, sink));
  } catch (...) {
    // By the same way as all other errors, so that it is the sink alone that
    // answers.
    context.loop.post([sink, error = to_api_error(std::current_exception())] {
      sink->on_error(error);
    });
  }
}

} // namespace mlx_flash::server
