#include "server/embedding_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "server/embedding_inputs.h"

namespace mlx_flash::server {

template <typename Work>
void EmbeddingRun::on_loop(Work work) {
  services_->loop.post(
      [self = shared_from_this(), work = std::move(work)]() mutable {
        if (!self->ended_) {
          work(*self);
        }
      });
}

// A sink that throws has no use for more.
template <typename Say>
void EmbeddingRun::tell(const Say& say) {
  if (ended_ || cancelled_) {
    return;
  }
  try {
    say(*sink_);
  } catch (const std::exception& error) {
    log::warn("[request {}] {}", job_.request_id, error.what());
    cancel();
  }
}

EmbeddingRun::EmbeddingRun(
    std::shared_ptr<RunServices> services,
    EmbeddingJob job,
    size_t at_once,
    double received,
    std::shared_ptr<EmbeddingSink> sink,
    std::function<void(const JobRun&)> over)
    : services_(std::move(services)),
      job_(std::move(job)),
      at_once_(at_once),
      sink_(std::move(sink)),
      over_(std::move(over)) {
  times_.received = received;
  times_.begun = now_seconds();
  status_.request_id = job_.request_id;
  status_.state = "loading";
}

void EmbeddingRun::set_state(const char* state) {
  std::lock_guard lock(status_mutex_);
  status_.state = state;
}

Generations::Running EmbeddingRun::status() const {
  std::lock_guard lock(status_mutex_);
  Generations::Running status = status_;
  status.seconds = now_seconds() - times_.received;
  return status;
}

void EmbeddingRun::begin() {
  limit_time();
  const auto self = shared_from_this();
  try {
    // Before a model is loaded for nothing.
    if (const ServedModel* model = services_->models.find(job_.model)) {
      check_embeddings(job_, *model);
    }
    services_->models.acquire(
        job_.model,
        [self](std::shared_ptr<ModelLease> lease) {
          self->take_lease(std::move(lease));
        },
        [self](const ApiError& error) { self->fail(error); });
  } catch (...) {
    end_with(to_api_error(std::current_exception()));
  }
}

void EmbeddingRun::limit_time() {
  const double limit = services_->options.limits.request_seconds;
  if (limit <= 0) {
    return;
  }
  services_->loop.post_after(
      std::max(0.0, times_.received + limit - now_seconds()),
      [weak = weak_from_this(), limit] {
        if (const auto self = weak.lock()) {
          self->fail(ApiError(
              ApiErrorKind::timeout,
              fmt::format(
                  "the embeddings took longer than the {} seconds that are "
                  "allowed here",
                  limit)));
        }
      });
}

void EmbeddingRun::cancel() {
  cancelled_ = true;
  on_loop([](EmbeddingRun& self) {
    self.services_->metrics.count_cancelled();
    self.log_end("cancelled");
    self.let_go();
  });
}

void EmbeddingRun::end_with(const ApiError& error) {
  on_loop([error](EmbeddingRun& self) { self.fail(error); });
}

void EmbeddingRun::take_lease(std::shared_ptr<ModelLease> lease) {
  if (ended_) {
    return;
  }
  lease_ = std::move(lease);
  times_.loaded = now_seconds();
  set_state("queued");
  const bool taken = services_->workers.post([self = shared_from_this(),
                                              lease_copy = lease_] {
    try {
      check_embeddings(self->job_, lease_copy->model());
      const Engine& engine = lease_copy->engine();
      self->on_loop(
          [inputs = make_embedding_inputs(
               self->job_, engine.text(), engine.vocab_size(), engine.plan())](
              EmbeddingRun& run) mutable {
            run.take_inputs(std::move(inputs));
          });
    } catch (...) {
      self->end_with(to_api_error(std::current_exception()));
    }
  });
  if (!taken) {
    ApiError error(
        ApiErrorKind::rate_limited,
        "too many requests wait for their texts to be read; try again later");
    error.retry_after_seconds = 1;
    fail(error);
  }
}

void EmbeddingRun::take_inputs(Inputs inputs) {
  for (const auto& each : inputs) {
    usage_.prompt_tokens += each.size();
  }
  inputs_ = std::make_shared<const Inputs>(std::move(inputs));
  job_.inputs.clear(); // which would be a second copy of them
  times_.reading = now_seconds();
  {
    std::lock_guard lock(status_mutex_);
    status_.state = "prompt";
    status_.progress.prompt_tokens = usage_.prompt_tokens;
  }
  const size_t count = std::min(at_once_, inputs_->size());
  try {
    while (sessions_.size() < count) {
      sessions_.push_back(lease_->engine().new_session());
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
      [weak = weak_from_this(), &loop = services_->loop, session, input](
          std::vector<float> embedding, std::exception_ptr error) {
        loop.post([weak, session, input, values = std::move(embedding), error] {
          const auto self = weak.lock();
          if (self && !self->ended_) {
            self->take(session, input, values, error);
          }
        });
      };
  services_->sessions->post([self = shared_from_this(),
                             one = sessions_[session],
                             inputs = inputs_,
                             input,
                             on_end] {
    try {
      one->start_embedding((*inputs)[input], on_end);
    } catch (...) {
      self->end_with(to_api_error(std::current_exception()));
    }
  });
}

void EmbeddingRun::take(
    size_t session,
    size_t input,
    const std::vector<float>& embedding,
    const std::exception_ptr& error) {
  if (cancelled_) {
    return; // which is on its way
  }
  if (error) {
    fail(to_api_error(error));
    return;
  }
  {
    std::lock_guard lock(status_mutex_);
    status_.progress.prompt_read += (*inputs_)[input].size();
  }
  tell([&](EmbeddingSink& sink) { sink.on_embedding(input, embedding); });
  start_next(session);
  if (++done_ == inputs_->size()) {
    finish();
  }
}

void EmbeddingRun::finish() {
  if (cancelled_) {
    return;
  }
  const double now = now_seconds();
  times_.first_token = times_.last_token = now;
  const Timings timings = times_.timings(now);
  services_->metrics.count_answer(figures_of(usage_, timings));
  log_end("finished");
  tell([&](EmbeddingSink& sink) {
    sink.on_end({lease_->model().name, usage_.prompt_tokens, timings});
  });
  let_go();
}

void EmbeddingRun::fail(const ApiError& error) {
  if (ended_ || cancelled_) {
    return;
  }
  if (error.kind() == ApiErrorKind::internal) {
    log::warn("[request {}] {}", job_.request_id, error.what());
  }
  services_->metrics.count_failed();
  log_end("failed");
  tell([&](EmbeddingSink& sink) { sink.on_error(error); });
  let_go();
}

void EmbeddingRun::log_end(const char* end) const {
  EndedAnswer answer{
      job_.request_id, "", end, usage_, times_.timings(now_seconds())};
  if (lease_) {
    answer.model = lease_->model().name;
  }
  log_if_slow(services_->options, answer);
}

void EmbeddingRun::let_go() {
  if (ended_) {
    return;
  }
  abandon();
  over_(*this);
}

void EmbeddingRun::abandon() {
  ended_ = true;
  sink_ = nullptr;
  for (const auto& session : sessions_) {
    session->cancel();
  }
  if (lease_ && job_.keep_seconds) {
    lease_->keep(*job_.keep_seconds);
  }
  // The model stays until its sessions are gone.
  services_->sessions->post(
      [lease = std::move(lease_), sessions = std::move(sessions_)]() mutable {
        sessions.clear();
        lease.reset();
      });
  lease_ = nullptr;
  sessions_.clear();
}

} // namespace mlx_flash::server
