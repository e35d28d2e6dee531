#include "server/generation_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "server/answer_options.h"

namespace mlx_flash::server {

namespace {

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

ApiError busy_error() {
  ApiError error(
      ApiErrorKind::rate_limited,
      "too many requests wait for their prompts to be read; try again later");
  error.retry_after_seconds = 1;
  return error;
}

} // namespace

GenerationRun::GenerationRun(
    std::shared_ptr<RunServices> services,
    Job job,
    double received,
    std::shared_ptr<AnswerSink> sink,
    std::function<void(const GenerationRun&)> over)
    : services_(std::move(services)),
      job_(std::move(job)),
      sink_(std::move(sink)),
      over_(std::move(over)),
      choices_(job_.choices) {
  times_.received = received;
  times_.begun = now_seconds();
  status_.request_id = job_.request_id;
  status_.state = "loading";
}

void GenerationRun::set_state(const char* state) {
  std::lock_guard lock(status_mutex_);
  status_.state = state;
}

Generations::Running GenerationRun::status() const {
  std::lock_guard lock(status_mutex_);
  Generations::Running status = status_;
  status.seconds = now_seconds() - times_.received;
  return status;
}

void GenerationRun::begin() {
  const double limit = services_->options.limits.request_seconds;
  if (limit > 0) {
    const double left = times_.received + limit - now_seconds();
    services_->loop.post_after(
        std::max(0.0, left), [weak = weak_from_this(), limit] {
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
  const auto self = shared_from_this();
  try {
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

void GenerationRun::cancel() {
  cancelled_ = true;
  on_loop([](GenerationRun& self) { self.give_up(); });
}

void GenerationRun::give_up() {
  services_->metrics.count_cancelled();
  log_end("cancelled", times_.timings(now_seconds()));
  let_go();
}

void GenerationRun::end_with(const ApiError& error) {
  on_loop([error](GenerationRun& self) { self.fail(error); });
}

void GenerationRun::take_lease(std::shared_ptr<ModelLease> lease) {
  if (ended_) {
    return;
  }
  lease_ = std::move(lease);
  times_.loaded = now_seconds();
  set_state("queued");
  const bool taken = services_->workers.post(
      [self = shared_from_this(), services = services_, lease_copy = lease_] {
        try {
          Prompt prompt = make_prompt(
              self->job_,
              lease_copy->model().name,
              lease_copy->engine(),
              services->replay);
          const auto options =
              answer_options(self->job_, prompt, lease_copy->engine());
          self->on_loop([prompt = std::move(prompt),
                         options](GenerationRun& run) mutable {
            run.take_prompt(std::move(prompt), options);
          });
        } catch (...) {
          self->end_with(to_api_error(std::current_exception()));
        }
      });
  if (!taken) {
    fail(busy_error());
  }
}

void GenerationRun::take_prompt(
    Prompt prompt,
    const GenerationOptions& options) {
  prompt_ = std::make_shared<const Prompt>(std::move(prompt));
  job_.prompt = std::string(); // which would be a second copy of it
  options_ = options;
  options_.sampling.seed = job_.sampling.seed.value_or(random_seed());
  usage_.prompt_tokens = prompt_->tokens.size();
  if (job_.score_prompt && prompt_->tokens.size() > 1) {
    begin_score();
    return;
  }
  JobStart start;
  if (job_.score_prompt) {
    start.prompt = {
        describe_token(lease_->engine().text(), {prompt_->tokens.front()})};
  }
  announce(std::move(start));
}

void GenerationRun::begin_score() {
  try {
    scoring_ = lease_->engine().new_session();
  } catch (...) {
    fail(to_api_error(std::current_exception()));
    return;
  }
  times_.reading = now_seconds();
  set_state("prompt");
  services_->scores->post(
      [self = shared_from_this(), session = scoring_, prompt = prompt_] {
        try {
          self->on_loop(
              [score = session->score(prompt->tokens, self->job_.top_logprobs)](
                  GenerationRun& run) { run.take_score(score); });
        } catch (...) {
          self->end_with(to_api_error(std::current_exception()));
        }
      });
}

void GenerationRun::take_score(const ScoreResult& score) {
  services_->sessions->post([session = std::move(scoring_)] {});
  scoring_ = nullptr;
  const Text& text = lease_->engine().text();
  JobStart start;
  start.prompt.push_back(describe_token(text, {score.ids.front()}));
  for (size_t i = 1; i < score.ids.size(); ++i) {
    ChosenToken token{score.ids[i], score.logprobs[i - 1]};
    if (i <= score.top.size()) {
      token.top = score.top[i - 1];
    }
    start.prompt.push_back(describe_token(text, token));
  }
  announce(std::move(start));
}

void GenerationRun::announce(JobStart start) {
  start.model = lease_->model().name;
  start.prompt_tokens = usage_.prompt_tokens;
  tell([&](AnswerSink& sink) { sink.on_start(start); });
  if (cancelled_) {
    return;
  }
  for (Choice& choice : choices_) {
    choice.answer.emplace(Answer::Setup{
        prompt_,
        may_call_tools(job_, *prompt_),
        job_.logprobs ? &lease_->engine().text() : nullptr,
        random_seed()});
  }
  if (options_.max_tokens > 0) {
    start_choice(0);
    return;
  }
  GenerationResult nothing;
  nothing.finish_reason = FinishReason::length;
  for (size_t i = 0; i < choices_.size(); ++i) {
    tell_parts(i, choices_[i].answer->finish(nothing));
    end_choice(i);
  }
}

void GenerationRun::fail(const ApiError& error) {
  if (ended_ || cancelled_) {
    return; // or will be
  }
  if (error.kind() == ApiErrorKind::internal) {
    log::warn("[request {}] {}", job_.request_id, error.what());
  }
  services_->metrics.count_failed();
  log_end("failed", times_.timings(now_seconds()));
  tell([&](AnswerSink& sink) { sink.on_error(error); });
  let_go();
}

void GenerationRun::log_end(const char* end, const Timings& timings) const {
  EndedAnswer answer{job_.request_id, "", end, usage_so_far(), timings};
  if (lease_) {
    answer.model = lease_->model().name;
  }
  if (prompt_) {
    answer.prompt = prompt_->text;
  }
  log_if_slow(services_->options, answer);
}

Usage GenerationRun::usage_so_far() const {
  Usage usage = usage_;
  for (const Choice& choice : choices_) {
    if (choice.answer && !choice.ended) {
      usage.completion_tokens += choice.answer->completion_tokens();
    }
  }
  return usage;
}

void GenerationRun::let_go() {
  if (ended_) {
    return;
  }
  abandon();
  over_(*this);
}

void GenerationRun::abandon() {
  ended_ = true;
  sink_ = nullptr;
  std::vector<std::shared_ptr<Session>> sessions{std::move(scoring_)};
  for (Choice& choice : choices_) {
    sessions.push_back(std::move(choice.session));
  }
  std::erase(sessions, nullptr);
  for (const auto& session : sessions) {
    session->cancel();
  }
  if (lease_ && job_.keep_seconds) {
    lease_->keep(*job_.keep_seconds);
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
