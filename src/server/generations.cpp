#include "server/generations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <list>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "server/embedding_inputs.h"
#include "server/embedding_run.h"
#include "server/generation_run.h"

namespace mlx_flash::server {

namespace {

// Answers that may be sent back as part of a conversation: each new prompt is
// looked for among them.
constexpr size_t kReplayedAnswers = 1024;
constexpr double kMostRetrySeconds = 60;

// Of a request that are embedded at once: they share what a step reads, and
// leave room for others.
constexpr uint64_t kTextsAtOnce = 8;

} // namespace

// Who is on its way. Runs tell it of their ends; it may be gone by then.
struct Generations::State : std::enable_shared_from_this<Generations::State> {
  explicit State(std::shared_ptr<RunServices> all) : services(std::move(all)) {}

  uint64_t most_choices() const {
    return services->options.limits.parallel + services->options.limits.queue;
  }
  void check(const Job& job) const;
  void admit(uint64_t count, uint64_t texts = 0);
  void launch(std::shared_ptr<JobRun> run);
  std::function<void(const JobRun&)> remover(
      uint64_t count,
      uint64_t texts = 0);
  void
  remove(const JobRun* run, uint64_t count, uint64_t texts, double seconds);
  std::vector<std::shared_ptr<JobRun>> all() const;

  const std::shared_ptr<RunServices> services;
  mutable std::mutex mutex;
  std::list<std::shared_ptr<JobRun>> runs; // in order
  uint64_t choices = 0; // of all of them
  uint64_t embeddings = 0; // that are wanted of all of them
  double usual_seconds = 1; // that a request takes, smoothed
};

void Generations::State::check(const Job& job) const {
  const uint64_t most = most_choices();
  if (job.choices == 0 || job.choices > most) {
    throw invalid_field(
        "n",
        fmt::format(
            "n must be from 1 to {}, which is how many answers can wait here, "
            "not {}",
            most,
            job.choices));
  }
}

// Takes so many choices, or so many texts to be embedded, or throws.
void Generations::State::admit(uint64_t count, uint64_t texts) {
  const uint64_t most = most_choices();
  const uint64_t most_texts = most_embeddings(services->options.limits);
  std::lock_guard lock(mutex);
  if (choices + count <= most && embeddings + texts <= most_texts) {
    choices += count;
    embeddings += texts;
    return;
  }
  ApiError error(
      ApiErrorKind::rate_limited,
      choices + count > most
          ? fmt::format(
                "{} answers are in progress or wait, and no more than {} may; "
                "try again later",
                choices,
                most)
          : fmt::format(
                "{} texts are being embedded, and no more than {} may be; try "
                "again later",
                embeddings,
                most_texts));
  error.retry_after_seconds = static_cast<int>(
      std::ceil(std::clamp(usual_seconds, 1.0, kMostRetrySeconds)));
  throw error;
}

void Generations::State::launch(std::shared_ptr<JobRun> run) {
  {
    std::lock_guard lock(mutex);
    runs.push_back(run);
  }
  run->begin();
}

// What a run of so many choices calls at its end.
std::function<void(const JobRun&)> Generations::State::remover(
    uint64_t count,
    uint64_t texts) {
  return [weak = weak_from_this(), count, texts, begun = now_seconds()](
             const JobRun& run) {
    if (const auto self = weak.lock()) {
      self->remove(&run, count, texts, now_seconds() - begun);
    }
  };
}

void Generations::State::remove(
    const JobRun* run,
    uint64_t count,
    uint64_t texts,
    double seconds) {
  std::lock_guard lock(mutex);
  std::erase_if(runs, [&](const auto& each) { return each.get() == run; });
  choices -= count;
  embeddings -= texts;
  usual_seconds += 0.1 * (seconds - usual_seconds);
}

std::vector<std::shared_ptr<JobRun>> Generations::State::all() const {
  std::lock_guard lock(mutex);
  return {runs.begin(), runs.end()};
}

Generations::Generations(
    const ServerOptions& options,
    Loop& loop,
    Workers& workers,
    ModelHost& models,
    Metrics& metrics)
    : state_(std::make_shared<State>(std::make_shared<RunServices>(
          options,
          loop,
          workers,
          models,
          metrics,
          kReplayedAnswers,
          options.limits.replayed_bytes))) {}

// The loop and the workers have stopped, or this is the loop.
Generations::~Generations() {
  for (const auto& run : state_->all()) {
    run->abandon();
  }
  state_->services->scores.reset();
  state_->services->sessions.reset();
}

std::shared_ptr<Generation>
Generations::start(Job job, double received, std::shared_ptr<AnswerSink> sink) {
  state_->check(job);
  const uint64_t choices = job.choices;
  state_->admit(choices);
  const auto run = std::make_shared<GenerationRun>(
      state_->services,
      std::move(job),
      received,
      std::move(sink),
      state_->remover(choices));
  state_->launch(run);
  return run;
}

std::shared_ptr<Generation> Generations::embed(
    EmbeddingJob job,
    double received,
    std::shared_ptr<EmbeddingSink> sink) {
  const uint64_t parallel = state_->services->options.limits.parallel;
  const uint64_t texts = job.inputs.size();
  const uint64_t count = std::clamp<uint64_t>(
      texts, 1, std::clamp<uint64_t>(parallel, 1, kTextsAtOnce));
  state_->admit(count, texts);
  const auto run = std::make_shared<EmbeddingRun>(
      state_->services,
      std::move(job),
      count,
      received,
      std::move(sink),
      state_->remover(count, texts));
  state_->launch(run);
  return run;
}

uint64_t Generations::count_tokens(
    const Conversation& conversation,
    const ModelLease& lease) const {
  const std::string& model = lease.model().name;
  return read_conversation(
             conversation,
             json_limits(state_->services->options.limits),
             model,
             lease.engine().text(),
             state_->services->replay,
             [] {})
      .tokens.size();
}

void Generations::cancel_all() {
  for (const auto& run : state_->all()) {
    run->end_with(ApiError(
        ApiErrorKind::unavailable, "the server is stopping; try again later"));
  }
}

size_t Generations::running() const {
  std::lock_guard lock(state_->mutex);
  return state_->runs.size();
}

std::vector<Generations::Running> Generations::list() const {
  std::vector<Running> list;
  for (const auto& run : state_->all()) {
    list.push_back(run->status());
  }
  return list;
}

} // namespace mlx_flash::server
