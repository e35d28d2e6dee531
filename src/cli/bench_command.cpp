// mlx-flash bench: how fast a model runs here, measured so that the figures
// can be trusted and repeated.
#include <fmt/chrono.h>

#include <ctime>
#include <limits>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "cli/bench_output.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/status_line.h"

namespace mlx_flash::cli {

namespace {

class BenchCommand : public Command {
 public:
  const char* name() const override {
    return "bench";
  }
  const char* summary() const override {
    return "Measure a model's speed, and what memory and disk allow";
  }
  const char* examples() const override {
    return "  mlx-flash bench models/tiny-tales-moe\n"
           "  mlx-flash bench MODEL --memory 4GB --context 128 --tokens 96\n"
           "  mlx-flash bench MODEL --prefill 512 --context none --csv\n";
  }
  void declare(Flags& flags) override;
  int run() override;

 private:
  BenchOptions options() const;
  BenchReport measure(const BenchOptions& options) const;

  EngineFlags engine_;
  std::optional<std::vector<uint64_t>> prefill_;
  std::optional<std::vector<uint64_t>> contexts_;
  std::optional<uint64_t> tokens_;
  std::optional<uint64_t> runs_;
  std::optional<uint64_t> seed_;
  bool json_ = false;
  bool csv_ = false;
};

void BenchCommand::declare(Flags& flags) {
  constexpr uint64_t kMany = std::numeric_limits<int32_t>::max();
  engine_.declare_model(flags);
  flags.group("Measurements");
  flags.count_list(
      "--prefill",
      prefill_,
      1,
      kMany,
      "Tokens of prompts, or none (default: 128,512,2048)");
  flags.count_list(
      "--context",
      contexts_,
      0,
      kMany,
      "Contexts to decode at, or none (default: 0,512,4096)");
  flags.count(
      "--tokens", tokens_, 1, kMany, "To decode each time (default: 32)");
  flags.count(
      "--runs", runs_, 1, 10'000, "Warm runs, after a cold one (default: 5)");
  flags.count(
      "--seed",
      seed_,
      0,
      std::numeric_limits<uint64_t>::max(),
      "Of the random tokens (default: 0)");
  flags.group("Output");
  flags.toggle("--json", json_, "Print one JSON object");
  flags.toggle("--csv", csv_, "Print CSV, a row for each run");
  engine_.declare_all(flags);
}

BenchOptions BenchCommand::options() const {
  if (json_ && csv_) {
    fail(
        ErrorCode::invalid_argument,
        "[bench] both --json and --csv are given; leave one out");
  }
  BenchOptions options;
  options.engine = engine_.options(0);
  options.prefill = prefill_;
  options.contexts = contexts_;
  options.decode_tokens = tokens_;
  options.runs = runs_.value_or(options.runs);
  options.seed = seed_.value_or(options.seed);
  return options;
}

// On a terminal a line that changes, elsewhere a line for each measurement.
BenchReport BenchCommand::measure(const BenchOptions& options) const {
  std::mutex mutex;
  std::string doing;
  const bool lines = !engine_.quiet() && !stderr_is_terminal();
  const StatusLine status(!engine_.quiet(), StatusLine::Place::in_line, [&] {
    const std::lock_guard lock(mutex);
    return doing;
  });
  return run_bench(options, [&](const BenchProgress& progress) {
    const std::string line = bench_progress_line(progress);
    if (lines && progress.run == 0) {
      print_error(line + "\n");
    }
    const std::lock_guard lock(mutex);
    doing = line;
  });
}

int BenchCommand::run() {
  const BenchOptions options = this->options();
  const std::string date =
      fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  const BenchReport report = measure(options);
  const BenchOutput output{report, options, build_facts(), date};
  if (json_) {
    return print(bench_json(output));
  }
  if (csv_) {
    if (!engine_.quiet()) { // CSV has no room for them
      for (const std::string& note : report.notes) {
        print_error("note: " + note + "\n");
      }
    }
    return print(bench_csv(output));
  }
  return print(bench_table(output));
}

} // namespace

std::unique_ptr<Command> make_bench_command() {
  return std::make_unique<BenchCommand>();
}

} // namespace mlx_flash::cli
