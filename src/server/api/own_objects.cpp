#include "server/api/own_objects.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

// 0 where there is nothing to divide by.
double ratio(double part, double all) {
  return all > 0 ? part / all : 0;
}
double ratio(uint64_t part, uint64_t all) {
  return ratio(static_cast<double>(part), static_cast<double>(all));
}

template <typename Value>
Json value_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json read_bytes(const Stats& stats) {
  return {
      {"demand", stats.bytes_read_demand},
      {"prefetch", stats.bytes_read_prefetch},
      {"load", stats.bytes_read_load},
  };
}

Json limits_object(const ServerLimits& limits) {
  return {
      {"connections", limits.connections},
      {"header_bytes", limits.header_bytes},
      {"body_bytes", limits.body_bytes},
      {"all_body_bytes", limits.all_body_bytes},
      {"header_seconds", limits.header_seconds},
      {"body_seconds", limits.body_seconds},
      {"idle_seconds", limits.idle_seconds},
      {"write_seconds", limits.write_seconds},
      {"unsent_bytes", limits.unsent_bytes},
      {"all_unsent_bytes", limits.all_unsent_bytes},
      {"json_depth", limits.json_depth},
      {"json_values", limits.json_values},
      {"messages", limits.messages},
      {"tools", limits.tools},
      {"choices", limits.choices},
      {"max_tokens", limits.max_tokens},
      {"stop_strings", limits.stop_strings},
      {"stop_string_bytes", limits.stop_string_bytes},
      {"logit_bias", limits.logit_bias},
      {"schema_bytes", limits.schema_bytes},
      {"grammar_cost", limits.grammar_cost},
      {"embedding_inputs", limits.embedding_inputs},
      {"parallel", limits.parallel},
      {"queue", limits.queue},
      {"request_seconds", limits.request_seconds},
      {"drain_seconds", limits.drain_seconds},
      {"stored_responses", limits.stored_responses},
      {"stored_response_bytes", limits.stored_response_bytes},
      {"replayed_bytes", limits.replayed_bytes},
  };
}

Json served_model_object(const ServedModel& model) {
  const EngineOptions& engine = model.engine;
  return {
      {"name", model.name},
      {"aliases", model.aliases},
      {"memory", engine.memory},
      {"slots", value_or_null(engine.slots)},
      {"resident", engine.resident},
      {"context_tokens", engine.context_tokens},
      {"prefill_chunk", engine.prefill_chunk},
      {"prefix_cache", engine.prefix_cache},
      {"prompt_cache_bytes", engine.prompt_cache_bytes},
      {"decode_gap_seconds", engine.decode_gap_seconds},
      {"threads", engine.threads},
      {"precision", engine.precision},
      {"reader", engine.reader},
      {"policy", engine.policy},
      {"device", engine.device == Device::cpu ? "cpu" : "gpu"},
      {"checksums", !engine.checksums.empty()},
  };
}

} // namespace

const char* model_state_word(ModelStatus::State state) {
  switch (state) {
    case ModelStatus::State::released:
      return "released";
    case ModelStatus::State::loading:
      return "loading";
    case ModelStatus::State::ready:
      return "ready";
    case ModelStatus::State::failed:
      break;
  }
  return "failed";
}

Json model_object(const ModelStatus& status) {
  return {
      {"model", status.name},
      {"state", model_state_word(status.state)},
      {"failure", status.error.empty() ? Json(nullptr) : Json(status.error)},
      {"loading_seconds", status.loading_seconds},
      {"seconds_left", value_or_null(status.seconds_left)},
      {"users", status.users},
      {"waiting", status.waiting},
  };
}

Json running_object(const Generations::Running& running) {
  const PromptProgress& progress = running.progress;
  return {
      {"request_id", running.request_id},
      {"state", running.state},
      {"seconds", running.seconds},
      {"queue_position", progress.queue_position},
      {"prompt_tokens", progress.prompt_tokens},
      {"prompt_read", progress.prompt_read},
      {"cached_tokens", progress.cached_tokens},
      {"prompt_fraction", ratio(progress.prompt_read, progress.prompt_tokens)},
      {"tokens_per_second", progress.tokens_per_second},
      {"seconds_left", progress.seconds_left},
      {"completion_tokens", running.completion_tokens},
  };
}

Json totals_object(const Metrics::Totals& totals) {
  return {
      {"answers", totals.answers},
      {"cancelled", totals.cancelled},
      {"failed", totals.failed},
      {"prompt_tokens", totals.prompt_tokens},
      {"cached_tokens", totals.cached_tokens},
      {"completion_tokens", totals.completion_tokens},
  };
}

Json stats_object(const Stats& stats) {
  const auto rate = [](uint64_t tokens, double seconds) {
    return ratio(static_cast<double>(tokens), seconds);
  };
  return {
      {"steps", stats.steps},
      {"prompt_steps", stats.prompt_steps},
      {"mixed_steps", stats.mixed_steps},
      {"prefill_tokens", stats.prefill_tokens},
      {"prefill_seconds", stats.prefill_seconds},
      {"prefill_tokens_per_second",
       rate(stats.prefill_tokens, stats.prefill_seconds)},
      {"decode_tokens", stats.decode_tokens},
      {"decode_seconds", stats.decode_seconds},
      {"decode_tokens_per_second",
       rate(stats.decode_tokens, stats.decode_seconds)},
      {"stall_seconds", stats.stall_seconds},
      {"longest_mixed_step_seconds", stats.longest_mixed_step_seconds},
      {"preemptions", stats.preemptions},
      {"requests_active", stats.requests_active},
      {"requests_waiting", stats.requests_waiting},
      {"bytes_read", read_bytes(stats)},
      {"load_seconds", stats.load_seconds},
      {"threads", stats.threads},
      {"precision", stats.precision},
      {"reader", stats.reader},
      {"policy", stats.policy},
      {"device", stats.device},
  };
}

Json memory_object(const Stats& stats, const Plan& plan) {
  Json accounts = Json::object();
  for (const PlanAccount& account : plan.accounts) {
    accounts[account.name] = account.bytes;
  }
  return {
      {"budget_bytes", stats.budget_bytes},
      {"budget_source", plan.budget_source},
      {"planned_bytes", stats.planned_bytes},
      {"peak_bytes", stats.peak_bytes},
      {"pressure", value_or_null(stats.memory_pressure)},
      {"accounts", std::move(accounts)},
      {"context_tokens", plan.context_tokens},
      {"model_context", plan.model_context},
  };
}

Json expert_cache_object(const Stats& stats) {
  return {
      {"policy", stats.policy},
      {"slots", stats.slots},
      {"slots_used", stats.slots_used},
      {"hits", stats.expert_hits},
      {"misses", stats.expert_misses},
      {"hit_ratio",
       ratio(stats.expert_hits, stats.expert_hits + stats.expert_misses)},
      {"evictions", stats.expert_evictions},
      {"decode_hits", stats.decode_expert_hits},
      {"decode_misses", stats.decode_expert_misses},
      {"decode_bytes_read", stats.decode_bytes_read},
      {"bytes_read", read_bytes(stats)},
  };
}

Json prompt_cache_object(const Metrics::Totals& totals) {
  return {
      {"prompt_tokens", totals.prompt_tokens},
      {"cached_tokens", totals.cached_tokens},
      {"hit_ratio", ratio(totals.cached_tokens, totals.prompt_tokens)},
  };
}

Json kv_cache_object(const Stats& stats) {
  return {
      {"pages", stats.kv_pages},
      {"pages_used", stats.kv_pages_used},
      {"pages_kept", stats.kv_pages_kept},
      {"cached_tokens", stats.cached_tokens},
      {"preemptions", stats.preemptions},
  };
}

Json disk_cache_object(const Stats& stats) {
  return {
      {"files", stats.prompt_cache_files},
      {"bytes", stats.prompt_cache_bytes},
      {"pages_read", stats.prompt_cache_read},
      {"pages_written", stats.prompt_cache_written},
      {"pages_evicted", stats.prompt_cache_evicted},
      {"failures", stats.prompt_cache_failed},
      {"restored_tokens", stats.restored_tokens},
  };
}

Json config_object(const ServerOptions& options) {
  Json models = Json::array();
  for (const ServedModel& model : options.models) {
    models.push_back(served_model_object(model));
  }
  return {
      {"host", options.host},
      {"port", options.port},
      {"api_key_required", !options.api_key.empty()},
      {"allowed_hosts", options.allowed_hosts},
      {"allowed_origins", options.allowed_origins},
      {"keep_seconds", options.keep_seconds},
      {"keep_alive_seconds", options.keep_alive_seconds},
      {"slow_seconds", options.slow_seconds},
      {"log_prompts", options.log_prompts},
      {"limits", limits_object(options.limits)},
      {"models", std::move(models)},
  };
}

} // namespace mlx_flash::server
