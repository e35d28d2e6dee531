// The CSV rows of mlx-flash bench.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "cli/bench_output.h"

namespace mlx_flash::cli {

namespace {

// Columns with their names: the header is that of the first row.
using Row = std::vector<std::pair<const char*, std::string>>;

// A field as RFC 4180 has it.
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) {
    return text;
  }
  std::string result = "\"";
  for (const char c : text) {
    result += c == '"' ? "\"\"" : std::string(1, c);
  }
  return result + "\"";
}

std::string header(const Row& row) {
  std::string text;
  for (const auto& [name, value] : row) {
    text += std::string(text.empty() ? "" : ",") + name;
  }
  return text + "\n";
}

std::string line(const Row& row) {
  std::string text;
  const char* separator = "";
  for (const auto& [name, value] : row) {
    text += separator + quoted(value);
    separator = ",";
  }
  return text + "\n";
}

template <typename T>
std::string text_of(const T& value) {
  return fmt::to_string(value);
}

// What all rows of a measurement begin with.
Row facts_of(const BenchOutput& output, const BenchMeasurement& measurement) {
  const BenchReport& report = output.report;
  const BenchMachine& machine = report.machine;
  const Plan& plan = measurement.plan;
  return {
      {"date", output.date},
      {"model", plan.model},
      {"version", output.build.version},
      {"commit", output.build.commit},
      {"build", output.build.type},
      {"compiler", output.build.compiler},
      {"cpu", machine.cpu},
      {"simd", machine.simd},
      {"byte_dot", machine.byte_dot ? "1" : "0"},
      {"system", machine.system},
      {"cpus", text_of(machine.cpus)},
      {"threads", text_of(report.engine.threads)},
      {"precision", report.engine.precision},
      {"reader", report.engine.reader},
      {"policy", report.engine.policy},
      {"device", report.engine.device},
      {"seed", text_of(output.options.seed)},
      {"disk_limit_gb_per_second",
       text_of(report.speeds.best.disk_gb_per_second)},
      {"budget_bytes", text_of(plan.budget_bytes)},
      {"peak_bytes", text_of(measurement.peak_bytes)},
      {"slots", text_of(plan.slots)},
      {"experts", text_of(plan.experts)},
      {"context_tokens", text_of(plan.context_tokens)},
      {"prefill_chunk", text_of(plan.prefill_chunk)}};
}

Row row_of(
    Row row,
    const BenchCase& what,
    const char* kind,
    size_t number,
    const BenchRun& run) {
  row.emplace_back("kind", kind);
  row.emplace_back("context", text_of(what.context));
  row.emplace_back("tokens", text_of(what.tokens));
  row.emplace_back("state", number == 0 ? "cold" : "warm");
  row.emplace_back("run", text_of(number));
  for (const BenchFigure& figure : kBenchFigures) {
    const auto& value = run.figures.*figure.value;
    row.emplace_back(figure.name, value ? text_of(*value) : "");
  }
  const BenchCounters& counters = run.counters;
  row.emplace_back("steps", text_of(counters.steps));
  row.emplace_back("expert_hits", text_of(counters.expert_hits));
  row.emplace_back("expert_misses", text_of(counters.expert_misses));
  row.emplace_back("bytes_read", text_of(counters.bytes_read));
  row.emplace_back("stall_seconds", text_of(counters.stall_seconds));
  row.emplace_back(
      "memory_limit_gb_per_second",
      run.memory_gb_per_second > 0 ? text_of(run.memory_gb_per_second) : "");
  return row;
}

// Opening the engine, as a run of its own.
BenchRun start_of(const BenchMeasurement& measurement) {
  BenchRun run;
  run.figures.seconds = measurement.start_seconds;
  run.counters.bytes_read = measurement.start_bytes_read;
  return run;
}

} // namespace

std::string bench_csv(const BenchOutput& output) {
  std::string text;
  for (const BenchMeasurement& measurement : output.report.measurements) {
    const Row facts = facts_of(output, measurement);
    const BenchCase& what = measurement.what;
    const char* kind = bench_kind_name(what.kind);
    const Row start = row_of(facts, what, "start", 0, start_of(measurement));
    if (text.empty()) {
      text = header(start);
    }
    text += line(start) + line(row_of(facts, what, kind, 0, measurement.cold));
    size_t number = 0;
    for (const BenchRun& run : measurement.warm) {
      text += line(row_of(facts, what, kind, ++number, run));
    }
  }
  return text;
}

} // namespace mlx_flash::cli
