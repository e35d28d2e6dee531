#include "server/generation_run.h"

#include <random>
#include <utility>

#include "base/clock.h"
#include "server/answer_options.h"

namespace mlx_flash::server {

namespace {

std::vector<TokenText> describe_prompt(
    const Text& text,
    const ScoreResult& score) {
  std::vector<TokenText> tokens{describe_token(text, {score.ids.front()})};
  for (size_t i = 1; i < score.ids.size(); ++i) {
    ChosenToken token{score.ids[i], score.logprobs[i - 1]};
    if (i <= score.top.size()) {
      token.top = score.top[i - 1];
    }
    tokens.push_back(describe_token(text, token));
  }
  return tokens;
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

} // namespace

GenerationRun::GenerationRun(
    std::shared_ptr<RunServices> services,
    Job job,
    double received,
    std::shared_ptr<AnswerSink> sink,
    Over over)
    : JobRun(std::move(services), job, received, std::move(over)),
      job_(std::move(job)),
      sink_(std::move(sink)),
      choices_(job_.choices) {}

std::function<void()> GenerationRun::prepare(ModelLease& lease) {
  auto prompt = std::make_shared<const Prompt>(make_prompt(
      job_,
      json_limits(services_->options.limits),
      lease.model().name,
      lease.engine(),
      services_->replay,
      [this] { go_on(); }));
  go_on();
  const auto options = answer_options(job_, *prompt, lease.engine());
  return [this, prompt = std::move(prompt), options] {
    take_prompt(prompt, options);
  };
}

void GenerationRun::take_prompt(
    std::shared_ptr<const Prompt> prompt,
    const GenerationOptions& options) {
  prompt_ = std::move(prompt);
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
  tell([&] {
    sink_->on_scoring(
        prompt_->tokens.size(), static_cast<uint64_t>(job_.top_logprobs));
  });
  if (is_over()) {
    return;
  }
  times_.reading = now_seconds();
  set_state("prompt");
  services_->scores->post([this, weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      score();
    }
  });
}

// Others may have been before it for long, so that nothing is held until here.
void GenerationRun::score() {
  std::shared_ptr<ModelLease> lease; // goes after the session
  std::shared_ptr<Session> session;
  try {
    {
      std::lock_guard lock(scoring_mutex_);
      if (is_over()) {
        return;
      }
      lease = lease_;
      session = scoring_ = open_session(*lease);
    }
    const ScoreResult result =
        session->score(prompt_->tokens, job_.top_logprobs);
    on_loop(
        [this,
         prompt = describe_prompt(lease->engine().text(), result)]() mutable {
          take_score(std::move(prompt));
        });
  } catch (...) {
    end_with(to_api_error(std::current_exception()));
  }
}

void GenerationRun::take_score(std::vector<TokenText> prompt) {
  services_->sessions->post([session = std::move(scoring_)] {});
  scoring_ = nullptr;
  JobStart start;
  start.prompt = std::move(prompt);
  announce(std::move(start));
}

void GenerationRun::announce(JobStart start) {
  start.model = lease_->model().name;
  start.prompt_tokens = usage_.prompt_tokens;
  tell([&] { sink_->on_start(start); });
  if (is_over()) {
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

void GenerationRun::tell_error(const ApiError& error) {
  sink_->on_error(error);
}

std::string_view GenerationRun::prompt_text() const {
  return prompt_ ? std::string_view(prompt_->text) : std::string_view();
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

std::vector<std::shared_ptr<Session>> GenerationRun::close() {
  sink_ = nullptr;
  std::vector<std::shared_ptr<Session>> sessions;
  {
    std::lock_guard lock(scoring_mutex_);
    sessions.push_back(std::move(scoring_));
  }
  for (Choice& choice : choices_) {
    sessions.push_back(std::move(choice.session));
  }
  return sessions;
}

} // namespace mlx_flash::server
