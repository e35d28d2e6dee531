// Where the time of a request went: marks on its way, and what they add up to.
// Also the log line about those that took long.
//
// Thread rule: one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/job.h"
#include "server/metrics.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// Moments in seconds, as now_seconds() has them.
struct AnswerTimes {
  double received = 0;
  double begun = 0;
  std::optional<double> loaded{}; // the model is there
  std::optional<double> reading{}; // the prompt's turn has come
  std::optional<double> first_token{};
  std::optional<double> last_token{};

  // What has not come yet took until `now`.
  Timings timings(double now) const;
};

AnswerFigures figures_of(const Usage& usage, const Timings& timings);

struct EndedAnswer {
  std::string request_id;
  std::string model; // its name; empty: it was not there yet
  const char* end = "finished"; // or "failed", "cancelled"
  Usage usage{}; // so far
  Timings timings{};
  std::string_view prompt{}; // must outlive the call
};

// One line about an answer that took longer than options.slow_seconds, with
// its prompt if prompts are logged.
void log_if_slow(const ServerOptions& options, const EndedAnswer& answer);

} // namespace mlx_flash::server
