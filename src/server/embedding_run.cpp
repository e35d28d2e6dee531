#include "server/embedding_run.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "server/embedding_inputs.h"

namespace mlx_flash::server {

EmbeddingRun::EmbeddingRun(
    std::shared_ptr<RunServices> services,
    EmbeddingJob job,
    size_t at_once,
    double received,
    std::shared_ptr<EmbeddingSink> sink,
    Over over)
    : JobRun(std::move(services), job, received, std::move(over)),
      job_(std::move(job)),
      at_once_(at_once),
      sink_(std::move(sink)) {}

void EmbeddingRun::check(const ServedModel& model) const {
  check_embeddings(job_, model);
}

std::function<void()> EmbeddingRun::prepare(ModelLease& lease) {
  const Engine& engine = lease.engine();
  auto inputs = std::make_shared<const Inputs>(make_embedding_inputs(
      job_, engine.text(), engine.vocab_size(), engine.plan(), [this] {
        go_on();
      }));
  return [this, inputs = std::move(inputs)] { take_inputs(inputs); };
}

void EmbeddingRun::take_inputs(std::shared_ptr<const Inputs> inputs) {
  inputs_ = std::move(inputs);
  for (const auto& each : *inputs_) {
    usage_.prompt_tokens += each.size();
  }
  job_.inputs.clear(); // which would be a second copy of them
  times_.reading = now_seconds();
  change_status([&](Generations::Running& status) {
    status.state = "prompt";
    status.progress.prompt_tokens = usage_.prompt_tokens;
  });
  const size_t count = std::min(at_once_, inputs_->size());
  try {
    while (sessions_.size() < count) {
      sessions_.push_back(open_session(*lease_));
    }
  } catch (...) {
    fail(to_api_error(std::current_exception()));
    return;
  }
  for (size_t i = 0; i < sessions_.size(); ++i) {
    start_next(i);
  }
}

// A session is empty when it has made an embedding, and makes the next one.
void EmbeddingRun::start_next(size_t session) {
  if (started_ == inputs_->size()) {
    return;
  }
  const size_t input = started_++;
  // The engine calls it; the loop outlives the engine.
  const auto on_end =
      [this, weak = weak_from_this(), &loop = services_->loop, session, input](
          std::vector<float> embedding, std::exception_ptr error) {
        loop.post(
            [this, weak, session, input, values = std::move(embedding), error] {
              if (const auto alive = weak.lock()) {
                take(session, input, values, error);
              }
            });
      };
  services_->sessions->post([self = shared_from_this(),
                             one = sessions_[session],
                             inputs = inputs_,
                             input,
                             on_end,
                             this] {
    try {
      go_on();
      one->start_embedding((*inputs)[input], on_end);
    } catch (...) {
      end_with(to_api_error(std::current_exception()));
    }
  });
}

void EmbeddingRun::take(
    size_t session,
    size_t input,
    const std::vector<float>& embedding,
    const std::exception_ptr& error) {
  if (is_over()) {
    return;
  }
  if (error) {
    fail(to_api_error(error));
    return;
  }
  change_status([&](Generations::Running& status) {
    status.progress.prompt_read += (*inputs_)[input].size();
  });
  tell([&] { sink_->on_embedding(input, embedding); });
  if (is_over()) {
    return;
  }
  start_next(session);
  if (++done_ == inputs_->size()) {
    times_.first_token = times_.last_token = now_seconds();
    finish([&](const Timings& timings) {
      sink_->on_end({lease_->model().name, usage_.prompt_tokens, timings});
    });
  }
}

void EmbeddingRun::tell_error(const ApiError& error) {
  sink_->on_error(error);
}

std::vector<std::shared_ptr<Session>> EmbeddingRun::close() {
  sink_ = nullptr;
  return std::move(sessions_);
}

} // namespace mlx_flash::server
