// What the server knows of itself, as JSON: the bodies of own_status.cpp.
//
// Thread rule: pure functions.
#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/generations.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// "released", "loading", "ready" or "failed".
const char* model_state_word(ModelStatus::State state);

// {"model", "state", "failure", "loading_seconds", "seconds_left", "users",
// "waiting"}
nlohmann::ordered_json model_object(const ModelStatus& status);
// One of those in progress.
nlohmann::ordered_json running_object(const Generations::Running& running);
nlohmann::ordered_json totals_object(const Metrics::Totals& totals);
nlohmann::ordered_json stats_object(const Stats& stats);
// {"budget_bytes", "planned_bytes", "peak_bytes", "accounts": {...}}
nlohmann::ordered_json memory_object(const Stats& stats, const Plan& plan);
// Lookups of experts, and what was read for them.
nlohmann::ordered_json expert_cache_object(const Stats& stats);
// What of prompts was there already.
nlohmann::ordered_json prompt_cache_object(const Metrics::Totals& totals);
// Where keys and values of prompts are kept.
nlohmann::ordered_json kv_cache_object(const Stats& stats);
nlohmann::ordered_json disk_cache_object(const Stats& stats);
// Everything that is in effect. No key and no path.
nlohmann::ordered_json config_object(const ServerOptions& options);

} // namespace mlx_flash::server
