// The JSON object of mlx-flash bench.
#include "cli/bench_output.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::cli {

namespace {

using Json = nlohmann::ordered_json; // fields in the order written here

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}
Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}
Json number_or_null(uint64_t number) {
  return number == 0 ? Json() : Json(number);
}

Json of(const std::optional<BenchSpread>& spread) {
  if (!spread) {
    return {};
  }
  return {
      {"median", spread->median}, {"min", spread->min}, {"max", spread->max}};
}

Json of(const BuildFacts& build) {
  return {
      {"version", build.version},
      {"commit", build.commit},
      {"type", build.type},
      {"compiler", build.compiler}};
}

Json of(const BenchMachine& machine) {
  return {
      {"cpu", machine.cpu},
      {"simd", machine.simd},
      {"byte_dot", machine.byte_dot},
      {"system", machine.system},
      {"cpus", machine.cpus},
      {"last_level_cache_bytes", machine.last_level_cache_bytes},
      {"memory_total_bytes", machine.memory_total_bytes},
      {"memory_free_bytes", machine.memory_free_bytes}};
}

// As they were given: null for what was left to the program.
Json of(const BenchOptions& options) {
  const EngineOptions& engine = options.engine;
  return {
      {"memory", text_or_null(engine.memory)},
      {"slots", or_null(engine.slots)},
      {"resident", engine.resident},
      {"ctx", number_or_null(engine.context_tokens)},
      {"prefill_chunk", number_or_null(engine.prefill_chunk)},
      {"threads", number_or_null(static_cast<uint64_t>(engine.threads))},
      {"precision", engine.precision},
      {"reader", engine.reader},
      {"policy", engine.policy},
      {"device", engine.device == Device::cpu ? "cpu" : "gpu"},
      {"checksums", text_or_null(engine.checksums.string())},
      {"prefill", or_null(options.prefill)},
      {"context", or_null(options.contexts)},
      {"tokens", or_null(options.decode_tokens)},
      {"runs", options.runs},
      {"seed", options.seed}};
}

Json of(const BenchSpeeds& speeds) {
  return {
      {"memory_gb_per_second", speeds.best.memory_gb_per_second},
      {"memory_measured", speeds.memory_gb_per_second},
      {"memory_buffer_bytes", speeds.memory_buffer_bytes},
      {"disk_gb_per_second", speeds.best.disk_gb_per_second},
      {"disk_measured", speeds.disk_gb_per_second},
      {"disk_read_bytes", speeds.disk_read_bytes},
      {"disk_depth", speeds.disk_depth}};
}

Json of(const BenchWork& work) {
  return {
      {"dense_bytes", work.dense_bytes},
      {"expert_bytes", work.expert_bytes},
      {"kv_bytes", work.kv_bytes},
      {"row_parameters", work.row_parameters},
      {"head_parameters", work.head_parameters},
      {"attention_flops", work.attention_flops}};
}

Json of(const BenchRun& run) {
  Json object = Json::object();
  for (const BenchFigure& figure : kBenchFigures) {
    object[figure.name] = or_null(run.figures.*figure.value);
  }
  const BenchCounters& counters = run.counters;
  object["steps"] = counters.steps;
  object["expert_hits"] = counters.expert_hits;
  object["expert_misses"] = counters.expert_misses;
  object["bytes_read"] = counters.bytes_read;
  object["stall_seconds"] = counters.stall_seconds;
  object["memory_limit_gb_per_second"] =
      run.memory_gb_per_second > 0 ? Json(run.memory_gb_per_second) : Json();
  return object;
}

Json start(const BenchReport& report) {
  std::vector<double> seconds;
  Json runs = Json::array();
  for (const BenchMeasurement& measurement : report.measurements) {
    seconds.push_back(measurement.start_seconds);
    runs.push_back(
        {{"seconds", measurement.start_seconds},
         {"bytes_read", measurement.start_bytes_read}});
  }
  return {{"seconds", of(spread_of(std::move(seconds)))}, {"runs", runs}};
}

Json of(const BenchMeasurement& measurement) {
  const Plan& plan = measurement.plan;
  Json warm = Json::object();
  for (const BenchFigure& figure : kBenchFigures) {
    warm[figure.name] = of(warm_spread(measurement, figure));
  }
  Json runs = Json::array();
  for (const BenchRun& run : measurement.warm) {
    runs.push_back(of(run));
  }
  return {
      {"kind", bench_kind_name(measurement.what.kind)},
      {"context", measurement.what.context},
      {"tokens", measurement.what.tokens},
      {"budget_bytes", plan.budget_bytes},
      {"budget_source", plan.budget_source},
      {"planned_bytes", plan.planned_bytes},
      {"peak_bytes", measurement.peak_bytes},
      {"slots", plan.slots},
      {"slot_bytes", plan.slot_bytes},
      {"experts", plan.experts},
      {"context_tokens", plan.context_tokens},
      {"prefill_chunk", plan.prefill_chunk},
      {"cold", of(measurement.cold)},
      {"warm", std::move(warm)},
      {"warm_runs", std::move(runs)}};
}

Json engine(const Stats& stats) {
  return {
      {"threads", stats.threads},
      {"precision", stats.precision},
      {"reader", stats.reader},
      {"policy", stats.policy},
      {"device", stats.device}};
}

} // namespace

std::string bench_json(const BenchOutput& output) {
  const BenchReport& report = output.report;
  const Plan& plan = report.measurements.back().plan;
  Json measurements = Json::array();
  for (const BenchMeasurement& measurement : report.measurements) {
    measurements.push_back(of(measurement));
  }
  const Json object{
      {"date", output.date},
      {"model", plan.model},
      {"model_type", plan.model_type},
      {"model_bytes", plan.model_bytes},
      {"build", of(output.build)},
      {"machine", of(report.machine)},
      {"options", of(output.options)},
      {"engine", engine(report.engine)},
      {"speeds", of(report.speeds)},
      {"work", of(report.work)},
      {"start", start(report)},
      {"measurements", std::move(measurements)},
      {"notes", report.notes}};
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace mlx_flash::cli
