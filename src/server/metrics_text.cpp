#include "server/metrics_text.h"

#include <fmt/format.h>

#include <array>

#include "server/prometheus_text.h"

namespace mlx_flash::server {

namespace {

using Type = PrometheusText::Type;

template <typename Value>
void counter(
    PrometheusText& text,
    std::string_view name,
    std::string_view help,
    Value value) {
  text.metric(name, Type::counter, help);
  text.sample(value);
}

template <typename Value>
void gauge(
    PrometheusText& text,
    std::string_view name,
    std::string_view help,
    Value value) {
  text.metric(name, Type::gauge, help);
  text.sample(value);
}

void write_process(PrometheusText& text, const ProcessFacts& process) {
  text.metric(
      "mlx_flash_build_info", Type::gauge, "The version of this program.");
  text.sample(uint64_t{1}, {{"version", process.version}});
  gauge(
      text,
      "mlx_flash_process_start_time_seconds",
      "When this process started, in seconds since the epoch.",
      process.started);
  gauge(
      text,
      "mlx_flash_uptime_seconds",
      "How long this process has been running.",
      process.uptime_seconds);
}

void write_requests(
    PrometheusText& text,
    const MetricsFigures& figures,
    const Metrics::Gauges& gauges) {
  text.metric(
      "mlx_flash_requests_total",
      Type::counter,
      "HTTP requests by route and status.");
  for (const auto& [key, count] : figures.requests) {
    text.sample(
        count, {{"route", key.first}, {"status", fmt::to_string(key.second)}});
  }
  gauge(text, "mlx_flash_connections", "Open connections.", gauges.connections);
  gauge(
      text,
      "mlx_flash_sessions",
      "Requests that are being answered. One that asks for several answers "
      "counts once here, and once for each where --parallel and --queue are "
      "concerned.",
      gauges.running);
  gauge(
      text,
      "mlx_flash_queue_depth",
      "Requests that wait for their turn or for the model, counted likewise.",
      gauges.waiting);
}

void write_answers(PrometheusText& text, const Metrics::Totals& totals) {
  text.metric(
      "mlx_flash_answers_total",
      Type::counter,
      "Answers by how they ended: finished, cancelled by the client, or "
      "failed.");
  text.sample(totals.answers, {{"end", "finished"}});
  text.sample(totals.cancelled, {{"end", "cancelled"}});
  text.sample(totals.failed, {{"end", "failed"}});
  counter(
      text,
      "mlx_flash_tokens_prompt_total",
      "Tokens of prompts, cached ones included.",
      totals.prompt_tokens);
  counter(
      text,
      "mlx_flash_tokens_cached_total",
      "Tokens of prompts that were in the prompt cache.",
      totals.cached_tokens);
  counter(
      text,
      "mlx_flash_tokens_generated_total",
      "Tokens of answers.",
      totals.completion_tokens);
}

void histogram(
    PrometheusText& text,
    std::string_view name,
    std::string_view help,
    const Histogram& histogram) {
  text.metric(name, Type::histogram, help);
  text.histogram(histogram.bounds(), histogram.counts(), histogram.sum());
}

void histogram(
    PrometheusText& text,
    std::string_view name,
    std::string_view help,
    const LatencyHistogram& latencies) {
  std::array<double, LatencyHistogram::kBounds> bounds{};
  for (size_t i = 0; i < bounds.size(); ++i) {
    bounds[i] = LatencyHistogram::bound_seconds(i);
  }
  text.metric(name, Type::histogram, help);
  text.histogram(bounds, latencies.counts, latencies.sum_seconds);
}

void write_histograms(
    PrometheusText& text,
    const MetricsFigures& figures,
    const Stats& engines) {
  histogram(
      text,
      "mlx_flash_time_to_first_token_seconds",
      "From a request to the first token of its answer.",
      figures.first_token);
  histogram(
      text,
      "mlx_flash_time_between_tokens_seconds",
      "Between two tokens of an answer.",
      figures.token_gap);
  histogram(
      text,
      "mlx_flash_queue_seconds",
      "How long requests waited for room.",
      figures.queue);
  histogram(
      text,
      "mlx_flash_prefill_tokens_per_second",
      "How fast prompts were read, cached tokens left out.",
      figures.prefill_rate);
  histogram(
      text,
      "mlx_flash_answer_seconds",
      "From a request to the end of its answer.",
      figures.answer);
  histogram(
      text,
      "mlx_flash_stall_per_token_seconds",
      "How long a decoded token waited for reads with nothing to compute.",
      engines.stall_per_token);
  histogram(
      text,
      "mlx_flash_read_latency_seconds",
      "From asking the device for bytes to having them.",
      engines.read_latency);
}

void write_model(
    PrometheusText& text,
    const Metrics::Gauges& gauges,
    uint64_t loads,
    const Stats* stats,
    const Plan* plan) {
  gauge(
      text,
      "mlx_flash_model_loaded",
      "1 while a model is loaded, else 0.",
      uint64_t{gauges.model_loaded});
  counter(
      text,
      "mlx_flash_model_loads_total",
      "How often a model was loaded.",
      loads);
  if (stats) {
    text.metric(
        "mlx_flash_model_info", Type::gauge, "The model that is loaded.");
    text.sample(
        uint64_t{1},
        {{"model", gauges.model},
         {"type", plan ? plan->model_type : ""},
         {"device", stats->device},
         {"precision", stats->precision},
         {"policy", stats->policy},
         {"reader", stats->reader}});
    gauge(
        text,
        "mlx_flash_model_load_seconds",
        "How long it took to load it.",
        stats->load_seconds);
  }
}

void write_memory(PrometheusText& text, const Stats& stats, const Plan* plan) {
  if (plan) {
    text.metric(
        "mlx_flash_memory_account_bytes",
        Type::gauge,
        "How the budget is divided, by account of the ledger.");
    for (const PlanAccount& account : plan->accounts) {
      text.sample(account.bytes, {{"account", account.name}});
    }
  }
  gauge(
      text,
      "mlx_flash_memory_budget_bytes",
      "Memory that may be used.",
      stats.budget_bytes);
  gauge(
      text,
      "mlx_flash_memory_planned_bytes",
      "The sum of all accounts.",
      stats.planned_bytes);
  gauge(
      text,
      "mlx_flash_memory_peak_bytes",
      "The most that was in use at once, as the budget counts memory.",
      stats.peak_bytes);
  if (stats.memory_pressure) {
    gauge(
        text,
        "mlx_flash_memory_pressure",
        "The share of the last ten seconds in which something in this "
        "process's cgroup, or on the machine, waited for memory.",
        *stats.memory_pressure);
  }
}

void write_kv_cache(
    PrometheusText& text,
    const Stats& engines,
    const Stats* stats) {
  counter(
      text,
      "mlx_flash_preemptions_total",
      "Requests that gave up their room for older ones, to be read again.",
      engines.preemptions);
  if (!stats) {
    return;
  }
  text.metric(
      "mlx_flash_kv_pages",
      Type::gauge,
      "Pages of the KV cache: in use by requests (active), kept for later "
      "ones (kept), and free.");
  text.sample(
      stats->kv_pages_used - stats->kv_pages_kept, {{"state", "active"}});
  text.sample(stats->kv_pages_kept, {{"state", "kept"}});
  text.sample(stats->kv_pages - stats->kv_pages_used, {{"state", "free"}});
  gauge(
      text,
      "mlx_flash_longest_mixed_step_seconds",
      "The longest that an answer stood still because another one's prompt "
      "was read.",
      stats->longest_mixed_step_seconds);
}

void write_prompt_cache(
    PrometheusText& text,
    const Stats& engines,
    const Stats* stats) {
  counter(
      text,
      "mlx_flash_prompt_cache_restored_tokens_total",
      "Tokens of prompts whose keys and values came from disk.",
      engines.restored_tokens);
  text.metric(
      "mlx_flash_prompt_cache_pages_total",
      Type::counter,
      "Pages of the prompt cache on disk: read, written, evicted for others, "
      "and those that were damaged or could not be written (failed).");
  text.sample(engines.prompt_cache_read, {{"event", "read"}});
  text.sample(engines.prompt_cache_written, {{"event", "written"}});
  text.sample(engines.prompt_cache_evicted, {{"event", "evicted"}});
  text.sample(engines.prompt_cache_failed, {{"event", "failed"}});
  if (stats) {
    gauge(
        text,
        "mlx_flash_prompt_cache_bytes",
        "What the prompt cache takes on disk.",
        stats->prompt_cache_bytes);
  }
}

void write_cache(
    PrometheusText& text,
    const Stats& engines,
    const Stats* stats) {
  counter(
      text,
      "mlx_flash_cache_hits_total",
      "Lookups of experts that were in memory.",
      engines.expert_hits);
  counter(
      text,
      "mlx_flash_cache_misses_total",
      "Lookups of experts that had to be read.",
      engines.expert_misses);
  counter(
      text,
      "mlx_flash_cache_evictions_total",
      "Experts that made room for others.",
      engines.expert_evictions);
  if (!stats) {
    return;
  }
  gauge(
      text,
      "mlx_flash_cache_slots",
      "Experts that there is room for in memory.",
      stats->slots);
  gauge(
      text,
      "mlx_flash_cache_entries",
      "Experts that are in memory.",
      stats->slots_used);
  const uint64_t lookups = stats->expert_hits + stats->expert_misses;
  gauge(
      text,
      "mlx_flash_cache_hit_ratio",
      "Share of lookups of experts that were in memory, since the model was "
      "loaded.",
      lookups == 0 ? 0.0
                   : static_cast<double>(stats->expert_hits) /
              static_cast<double>(lookups));
}

void write_work(PrometheusText& text, const Stats& engines) {
  text.metric(
      "mlx_flash_read_bytes_total",
      Type::counter,
      "Bytes read from the device: experts that a step waited for (demand), "
      "experts read on a guess (prefetch), headers and dense weights (load).");
  text.sample(engines.bytes_read_demand, {{"cause", "demand"}});
  text.sample(engines.bytes_read_prefetch, {{"cause", "prefetch"}});
  text.sample(engines.bytes_read_load, {{"cause", "load"}});
  counter(
      text,
      "mlx_flash_stall_seconds_total",
      "Waiting for reads with nothing to compute.",
      engines.stall_seconds);
  text.metric(
      "mlx_flash_steps_total",
      Type::counter,
      "Steps of the engine by what their rows were: of prompts, of answers "
      "(decode) or of both (mixed).");
  text.sample(engines.prompt_steps - engines.mixed_steps, {{"rows", "prompt"}});
  text.sample(engines.mixed_steps, {{"rows", "mixed"}});
  text.sample(engines.steps - engines.prompt_steps, {{"rows", "decode"}});
}

void write_rates(PrometheusText& text, const Stats& engines) {
  counter(
      text,
      "mlx_flash_prefill_tokens_total",
      "Tokens of prompts that were computed.",
      engines.prefill_tokens);
  counter(
      text,
      "mlx_flash_prefill_seconds_total",
      "Time spent on them.",
      engines.prefill_seconds);
  counter(
      text,
      "mlx_flash_decode_tokens_total",
      "Tokens of answers that were computed.",
      engines.decode_tokens);
  counter(
      text,
      "mlx_flash_decode_seconds_total",
      "Time spent on them.",
      engines.decode_seconds);
}

} // namespace

std::string metrics_text(
    const ProcessFacts& process,
    const MetricsFigures& figures,
    const Metrics::Gauges& gauges,
    const Stats& engines,
    uint64_t loads,
    const Stats* stats,
    const Plan* plan) {
  PrometheusText text;
  write_process(text, process);
  write_requests(text, figures, gauges);
  write_answers(text, figures.totals);
  write_histograms(text, figures, engines);
  write_model(text, gauges, loads, stats, plan);
  if (stats) {
    write_memory(text, *stats, plan);
  }
  write_kv_cache(text, engines, stats);
  write_prompt_cache(text, engines, stats);
  write_cache(text, engines, stats);
  write_work(text, engines);
  write_rates(text, engines);
  return text.text();
}

} // namespace mlx_flash::server
