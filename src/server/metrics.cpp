#include "server/metrics.h"

#include <chrono>
#include <mutex>

#include "base/clock.h"
#include "server/engine_totals.h"
#include "server/metrics_text.h"

namespace mlx_flash::server {

namespace {

// Routes are ours and few; this holds if a caller ever forgets that.
constexpr size_t kMostRequestSeries = 512;

double seconds_since_epoch() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

} // namespace

struct Metrics::State {
  explicit State(std::string its_version) : version(std::move(its_version)) {}

  const std::string version;
  const double started = seconds_since_epoch();
  const double begin = now_seconds();

  std::mutex mutex; // of all below
  MetricsFigures figures;
  EngineTotals engines;
};

Metrics::Metrics(std::string version)
    : state_(std::make_unique<State>(std::move(version))) {}

Metrics::~Metrics() = default;

void Metrics::count_request(const std::string& route, int status) {
  std::lock_guard lock(state_->mutex);
  auto& requests = state_->figures.requests;
  const bool room = requests.size() < kMostRequestSeries ||
      requests.contains({route, status});
  ++requests[{room ? route : "other", status}];
}

void Metrics::count_answer(const AnswerFigures& answer) {
  std::lock_guard lock(state_->mutex);
  MetricsFigures& figures = state_->figures;
  ++figures.totals.answers;
  figures.totals.prompt_tokens += answer.prompt_tokens;
  figures.totals.cached_tokens += answer.cached_tokens;
  figures.totals.completion_tokens += answer.completion_tokens;

  figures.queue.observe(answer.queue_seconds);
  figures.answer.observe(answer.total_seconds);
  if (answer.completion_tokens > 0) {
    figures.first_token.observe(answer.total_seconds - answer.decode_seconds);
  }
  if (answer.prompt_tokens > answer.cached_tokens &&
      answer.prompt_seconds > 0) {
    figures.prefill_rate.observe(
        static_cast<double>(answer.prompt_tokens - answer.cached_tokens) /
        answer.prompt_seconds);
  }
}

void Metrics::count_cancelled() {
  std::lock_guard lock(state_->mutex);
  ++state_->figures.totals.cancelled;
}

void Metrics::count_failed() {
  std::lock_guard lock(state_->mutex);
  ++state_->figures.totals.failed;
}

void Metrics::observe_token_gap(double seconds) {
  std::lock_guard lock(state_->mutex);
  state_->figures.token_gap.observe(seconds);
}

void Metrics::retire(const Stats& last) {
  std::lock_guard lock(state_->mutex);
  state_->engines.retire(last);
}

std::string Metrics::prometheus_text(
    const Gauges& gauges,
    const Stats* stats,
    const Plan* plan) const {
  // Written from a copy, so that no token waits for it.
  std::unique_lock lock(state_->mutex);
  const MetricsFigures figures = state_->figures;
  const Stats engines = state_->engines.with(stats);
  const uint64_t loads = state_->engines.engines();
  lock.unlock();
  const ProcessFacts process{
      state_->version, state_->started, uptime_seconds()};
  return metrics_text(process, figures, gauges, engines, loads, stats, plan);
}

Metrics::Totals Metrics::totals() const {
  std::lock_guard lock(state_->mutex);
  return state_->figures.totals;
}

double Metrics::uptime_seconds() const {
  return now_seconds() - state_->begin;
}

const std::string& Metrics::version() const {
  return state_->version;
}

} // namespace mlx_flash::server
