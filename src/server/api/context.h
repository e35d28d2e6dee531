// What every route can use.
#pragma once

#include "server/generations.h"
#include "server/http/http.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct ApiContext {
  const ServerOptions& options;
  Loop& loop;
  Workers& workers;
  ModelHost& models;
  Generations& generations;
  Metrics& metrics;
  std::function<void()> shut_down; // as SIGTERM does
  std::function<uint64_t()> connections{}; // that are open
};

} // namespace mlx_flash::server
