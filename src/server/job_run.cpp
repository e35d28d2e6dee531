#include "server/job_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace mlx_flash::server {

namespace {

ApiError busy_error() {
  return ApiError(
      ApiErrorKind::rate_limited,
      "too many requests wait for their texts to be read; try again later");
}

} // namespace

JobRun::JobRun(
    std::shared_ptr<RunServices> services,
    const std::string& request_id,
    const std::string& model,
    std::optional<double> keep_seconds,
    double received,
    Over over)
    : services_(std::move(services)),
      request_id_(request_id),
      model_(model),
      keep_seconds_(keep_seconds),
      over_(std::move(over)) {
  times_.received = received;
  times_.begun = now_seconds();
  status_.request_id = request_id_;
  status_.state = "loading";
}

void JobRun::on_loop(std::function<void()> work) {
  services_->loop.post([self = shared_from_this(), work = std::move(work)] {
    if (!self->ended_) {
      work();
    }
  });
}

void JobRun::set_state(const char* state) {
  change_status([&](Generations::Running& status) { status.state = state; });
}

Generations::Running JobRun::status() const {
  std::lock_guard lock(status_mutex_);
  Generations::Running status = status_;
  status.seconds = now_seconds() - times_.received;
  return status;
}

void JobRun::begin() {
  on_loop([this] {
    limit_time();
    ask();
  });
}

void JobRun::ask() {
  if (is_over()) {
    return;
  }
  const auto self = shared_from_this();
  try {
    if (const ServedModel* model = services_->models.find(model_)) {
      check(*model);
    }
    withdraw_ = services_->models.acquire(
        model_,
        [self](std::shared_ptr<ModelLease> lease) {
          self->take_lease(std::move(lease));
        },
        [self](const ApiError& error) { self->fail(error); });
  } catch (...) {
    fail(to_api_error(std::current_exception()));
  }
}

void JobRun::limit_time() {
  const double limit = services_->options.limits.request_seconds;
  if (limit <= 0) {
    return;
  }
  forget_limit_ = services_->loop.post_after(
      std::max(0.0, times_.received + limit - now_seconds()),
      [weak = weak_from_this(), limit] {
        if (const auto self = weak.lock()) {
          self->fail(ApiError(
              ApiErrorKind::timeout,
              fmt::format(
                  "the answer took longer than the {} seconds that are "
                  "allowed here",
                  limit)));
        }
      });
}

void JobRun::take_lease(std::shared_ptr<ModelLease> lease) {
  if (ended_) {
    return;
  }
  lease_ = std::move(lease);
  times_.loaded = now_seconds();
  set_state("queued");
  const bool taken =
      services_->workers.post([self = shared_from_this(), lease_copy = lease_] {
        try {
          self->go_on();
          self->check(lease_copy->model());
          self->on_loop(self->prepare(*lease_copy));
        } catch (...) {
          self->end_with(to_api_error(std::current_exception()));
        }
      });
  if (!taken) {
    fail(busy_error());
  }
}

void JobRun::go_on() const {
  if (is_over()) {
    throw ApiError(ApiErrorKind::unavailable, "nobody waits for this any more");
  }
}

std::unique_ptr<Session> JobRun::open_session(ModelLease& lease) {
  try {
    return lease.engine().new_session();
  } catch (const std::exception& error) {
    throw ApiError(ApiErrorKind::unavailable, error.what());
  }
}

void JobRun::cancel() {
  cancelled_ = true;
  on_loop([this] {
    services_->metrics.count_cancelled();
    log_end("cancelled", times_.timings(now_seconds()));
    let_go();
  });
}

void JobRun::end_with(const ApiError& error) {
  on_loop([this, error] { fail(error); });
}

void JobRun::finish(const std::function<void(const Timings&)>& tell_end) {
  if (is_over()) {
    return; // or will be
  }
  const Timings timings = times_.timings(now_seconds());
  services_->metrics.count_answer(figures_of(usage_, timings));
  log_end("finished", timings);
  tell([&] { tell_end(timings); });
  let_go();
}

void JobRun::fail(const ApiError& error) {
  if (is_over()) {
    return; // or will be
  }
  if (error.kind() == ApiErrorKind::internal) {
    log::warn("[request {}] {}", request_id_, error.what());
  }
  services_->metrics.count_failed();
  log_end("failed", times_.timings(now_seconds()));
  try {
    tell_error(error);
  } catch (const std::exception& why) {
    log::warn("[request {}] {}", request_id_, why.what());
  }
  let_go();
}

void JobRun::log_end(const char* end, const Timings& timings) const {
  EndedAnswer answer{
      request_id_, "", end, usage_so_far(), timings, prompt_text()};
  if (lease_) {
    answer.model = lease_->model().name;
  }
  log_if_slow(services_->options, answer);
}

void JobRun::let_go() {
  if (ended_) {
    return;
  }
  abandon();
  over_(*this);
}

void JobRun::abandon() {
  ended_ = true;
  withdraw_();
  forget_limit_();
  std::vector<std::shared_ptr<Session>> sessions = close();
  std::erase(sessions, nullptr);
  for (const auto& session : sessions) {
    session->cancel();
  }
  if (lease_ && keep_seconds_) {
    lease_->keep(*keep_seconds_);
  }
  // The model stays until its sessions are gone.
  services_->sessions->post(
      [lease = std::move(lease_), sessions = std::move(sessions)]() mutable {
        sessions.clear();
        lease.reset();
      });
  lease_ = nullptr;
}

} // namespace mlx_flash::server
