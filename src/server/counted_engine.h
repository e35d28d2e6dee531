// An engine whose last figures are handed over to the metrics when it goes, so
// that their counters go on with the next one.
//
// Thread rule: as Engine. `metrics` must outlive it.
#pragma once

#include <memory>

#include "mlx_flash/engine.h"
#include "server/metrics.h"

namespace mlx_flash::server {

std::unique_ptr<Engine> count_engine(
    std::unique_ptr<Engine> engine,
    Metrics& metrics);

} // namespace mlx_flash::server
