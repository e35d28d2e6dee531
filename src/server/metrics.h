// What the server counts, and its text form for Prometheus
// (https://prometheus.io/docs/instrumenting/exposition_formats/, text 0.0.4).
// Every name begins with mlx_flash_; docs/metrics.md and the dashboard name
// them too. The form is in metrics_text.h.
//
// Thread rule: all methods from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "mlx_flash/plan.h"
#include "mlx_flash/stats.h"

namespace mlx_flash::server {

// What happened to one answer, for the histograms and the slow-request log.
struct AnswerFigures {
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t completion_tokens = 0;
  double load_seconds = 0;
  double queue_seconds = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;
  double total_seconds = 0;
};

class Metrics {
 public:
  explicit Metrics(std::string version = "unknown");
  ~Metrics();

  // `route` is a pattern of ours, never what a client wrote.
  void count_request(const std::string& route, int status);
  void count_answer(const AnswerFigures& figures);
  void count_cancelled();
  void count_failed();
  // Between two tokens of an answer.
  void observe_token_gap(double seconds);
  // The last figures of an engine that nobody will ask for figures again, so
  // that counters go on when a model is loaded the next time.
  void retire(const Stats& last);

  // Of this moment.
  struct Gauges {
    uint64_t connections = 0;
    uint64_t running = 0; // requests that are being answered
    uint64_t waiting = 0; // requests in the queue
    bool model_loaded = false;
    std::string model{}; // the name of the one that is loaded
  };

  // Null for what there is not while no model is loaded. Whose `stats` they
  // are must not be retired before this returns.
  std::string prometheus_text(
      const Gauges& gauges,
      const Stats* stats,
      const Plan* plan) const;

  // Since the start.
  struct Totals {
    uint64_t answers = 0; // that came to their end
    uint64_t cancelled = 0;
    uint64_t failed = 0;
    uint64_t prompt_tokens = 0;
    uint64_t cached_tokens = 0; // of these
    uint64_t completion_tokens = 0;
  };
  Totals totals() const;
  double uptime_seconds() const;
  const std::string& version() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

} // namespace mlx_flash::server
