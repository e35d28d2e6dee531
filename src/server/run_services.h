// What the runs of a server share (job_run.h). The threads are null once the
// server is gone; no run asks for them by then.
#pragma once

#include <cstddef>
#include <memory>

#include "server/background_thread.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/replay.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct RunServices {
  RunServices(
      const ServerOptions& all_options,
      Loop& a_loop,
      Workers& some_workers,
      ModelHost& a_host,
      Metrics& some_metrics,
      size_t replayed_answers,
      size_t replayed_bytes)
      : options(all_options),
        loop(a_loop),
        workers(some_workers),
        models(a_host),
        metrics(some_metrics),
        replay(replayed_answers, replayed_bytes) {}

  const ServerOptions& options;
  Loop& loop;
  Workers& workers;
  ModelHost& models;
  Metrics& metrics;
  Replay replay;
  // Starting a session may wait for the engine, and so may ending one.
  std::unique_ptr<BackgroundThread> sessions =
      std::make_unique<BackgroundThread>();
  // Scores of prompts, one after another.
  std::unique_ptr<BackgroundThread> scores =
      std::make_unique<BackgroundThread>();
};

} // namespace mlx_flash::server
