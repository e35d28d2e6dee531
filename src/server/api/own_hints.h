// Advice for whoever runs the server, from what it has counted.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_flash/plan.h"
#include "mlx_flash/stats.h"
#include "server/model_host.h"

namespace mlx_flash::server {

struct Hint {
  std::string priority; // "critical", "warning" or "info"
  std::string action; // a word for programs, such as "raise_memory"
  std::string message;
};

struct HintFacts {
  ModelStatus model{};
  const Stats* stats = nullptr; // of the model that is loaded, or null
  const Plan* plan = nullptr; // of the same
  uint64_t running = 0;
  uint64_t waiting = 0;
  uint64_t parallel = 0; // answers that may be in progress
};

// The most pressing first.
std::vector<Hint> find_hints(const HintFacts& facts);

} // namespace mlx_flash::server
