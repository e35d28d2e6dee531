// The table of mlx-flash bench, and its line of progress.
#include <fmt/format.h>

#include "cli/bench_output.h"

namespace mlx_flash::cli {

namespace {

struct Column {
  const char* name;
  int width;
};
constexpr Column kColumns[] = {
    {"tok/s", 9},
    {"(min .. max)", 22},
    {"hits", 8},
    {"read/token", 11},
    {"disk GB/s", 10},
    {"share", 8},
    {"memory GB/s", 12},
    {"share", 8},
    {"GFLOP/s", 10},
    {"stall", 7},
};

std::string number(std::optional<double> value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.0f} %", 100 * *share) : "-";
}

std::string bytes(std::optional<double> value) {
  return value ? format_bytes(static_cast<uint64_t>(*value)) : "-";
}

std::string range(const std::optional<BenchSpread>& spread, int digits) {
  return spread ? fmt::format(
                      "({} .. {})",
                      number(spread->min, digits),
                      number(spread->max, digits))
                : "";
}

std::string cells(const BenchFigures& figures, const std::string& spread) {
  const std::string values[] = {
      number(figures.tokens_per_second, 1),
      spread,
      percent(figures.hit_rate),
      bytes(figures.bytes_read_per_token),
      number(figures.disk_gb_per_second, 2),
      percent(figures.disk_share),
      number(figures.memory_gb_per_second, 2),
      percent(figures.memory_share),
      number(figures.gflop_per_second, 1),
      percent(figures.stall_share)};
  std::string text;
  for (size_t i = 0; i < std::size(kColumns); ++i) {
    text += fmt::format("{:>{}}", values[i], kColumns[i].width);
  }
  return text + "\n";
}

BenchFigures medians(const BenchMeasurement& measurement) {
  BenchFigures figures;
  for (const BenchFigure& figure : kBenchFigures) {
    if (const auto spread = warm_spread(measurement, figure)) {
      figures.*figure.value = spread->median;
    }
  }
  return figures;
}

std::string rows(const BenchMeasurement& measurement) {
  const auto speeds = warm_spread(
      measurement, {"tokens_per_second", &BenchFigures::tokens_per_second});
  const Plan& plan = measurement.plan;
  const std::string slots =
      plan.experts > 0 ? fmt::format("{}/{}", plan.slots, plan.experts) : "-";
  return fmt::format(
             "{:<16} {:<12} cold", bench_case_name(measurement.what), slots) +
      cells(measurement.cold.figures, "") + fmt::format("{:>34}", "warm") +
      cells(medians(measurement), range(speeds, 1));
}

std::string heading() {
  std::string text = fmt::format("{:<16} {:<12} run ", "", "experts");
  for (const Column& column : kColumns) {
    text += fmt::format("{:>{}}", column.name, column.width);
  }
  return text + "\n";
}

std::string start_line(const BenchReport& report) {
  std::vector<double> seconds;
  for (const BenchMeasurement& measurement : report.measurements) {
    seconds.push_back(measurement.start_seconds);
  }
  const size_t count = seconds.size();
  const auto spread = spread_of(std::move(seconds));
  return fmt::format(
      "start-up {:.3f} s {}, {} times, {} read\n",
      spread->median,
      range(spread, 3),
      count,
      format_bytes(report.measurements.back().start_bytes_read));
}

std::string facts(const BenchOutput& output) {
  const BenchReport& report = output.report;
  const BenchMachine& machine = report.machine;
  const BenchSpeeds& speeds = report.speeds;
  const Stats& engine = report.engine;
  const Plan& plan = report.measurements.back().plan;
  return fmt::format(
             "{} ({}), {} of weights, budget {} ({})\n",
             plan.model,
             plan.model_type,
             format_bytes(plan.model_bytes),
             format_bytes(plan.budget_bytes),
             plan.budget_source) +
      fmt::format(
             "{}, {}{}, {} processors, {} of memory, {}\n",
             machine.cpu,
             machine.simd,
             machine.byte_dot ? " with byte dot products" : "",
             machine.cpus,
             format_bytes(machine.memory_total_bytes),
             machine.system) +
      fmt::format(
             "mlx-flash {} ({}, {}, {}), {}, {}, {} threads, reader {}, "
             "policy {}\n",
             output.build.version,
             output.build.commit,
             output.build.type,
             output.build.compiler,
             engine.device,
             engine.precision,
             engine.threads,
             engine.reader,
             engine.policy) +
      fmt::format(
             "memory is read at {:.2f} GB/s ({} by all threads), the disk at "
             "{:.2f} GB/s ({} a read, {} at once)\n",
             speeds.best.memory_gb_per_second,
             format_bytes(speeds.memory_buffer_bytes),
             speeds.best.disk_gb_per_second,
             format_bytes(speeds.disk_read_bytes),
             speeds.disk_depth) +
      start_line(report);
}

} // namespace

std::string bench_table(const BenchOutput& output) {
  std::string text = facts(output) + "\n" + heading();
  for (const BenchMeasurement& measurement : output.report.measurements) {
    text += rows(measurement);
  }
  text += fmt::format(
      "\ncold: the first run after a start-up; warm: the median of {} more\n",
      output.options.runs);
  for (const std::string& note : output.report.notes) {
    text += "note: " + note + "\n";
  }
  return text;
}

std::string bench_progress_line(const BenchProgress& progress) {
  if (!progress.what) {
    return "measuring memory and disk";
  }
  std::string run =
      fmt::format("warm run {} of {}", progress.run - 1, progress.runs - 1);
  if (progress.run < 2) {
    run = progress.run == 0 ? "start-up" : "cold run";
  }
  return fmt::format(
      "[{}/{}] {}: {}",
      progress.measurement + 1,
      progress.measurements,
      bench_case_name(*progress.what),
      run);
}

} // namespace mlx_flash::cli
