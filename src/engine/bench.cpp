#include "mlx_flash/bench.h"

#include <algorithm>

#include "base/error.h"
#include "engine/bench_cases.h"
#include "engine/bench_measure.h"
#include "engine/bench_work.h"
#include "engine/memory_speed.h"
#include "engine/planner.h"
#include "kernels/byte_dot.h"
#include "kernels/simd_level.h"
#include "platform/cpu_facts.h"
#include "platform/direct_file.h"
#include "platform/machine_facts.h"
#include "platform/memory_facts.h"
#include "storage/disk_speed.h"

namespace mlx_flash {

namespace {

void validate(const BenchOptions& options) {
  if (options.runs < 1 || options.runs > 10'000) {
    fail(
        ErrorCode::invalid_argument,
        "[bench] {} warm runs cannot be made; give 1 to 10000",
        options.runs);
  }
  if (!(options.probe_seconds >= 0 && options.probe_seconds <= 60)) {
    fail(
        ErrorCode::invalid_argument,
        "[bench] memory and disk cannot be measured for {} seconds; give 0 to "
        "60",
        options.probe_seconds);
  }
}

BenchMachine describe_machine() {
  const MachineFacts facts = read_machine_facts();
  const MemoryFacts memory = read_memory_facts();
  BenchMachine machine;
  machine.cpu = facts.cpu;
  machine.simd = kernels::simd_level();
  machine.byte_dot = kernels::uses_byte_dot(kernels::simd_bits());
  machine.system = facts.system;
  machine.cpus = usable_cpus();
  machine.last_level_cache_bytes = facts.last_level_cache_bytes;
  machine.memory_total_bytes = memory.total_bytes;
  machine.memory_free_bytes = memory.free_bytes;
  return machine;
}

// The CPU back-end's pages; MLX's operations keep keys and values in bf16.
uint64_t kv_position_bytes(const PlanFacts& facts, Device device) {
  const ops::KvShape shape = facts.shape.kv();
  return device == Device::cpu
      ? ops::kv_page_bytes(shape, facts.kv_type) / ops::kKvPageTokens
      : ops::kv_page_bytes(shape, kernels::KvType::f32) / 2 /
          ops::kKvPageTokens;
}

double best_of(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// A model's files, for what happens between engines. Never kept while one is
// open: an engine has the same tables, and its budget has room for one copy.
struct Files {
  explicit Files(const std::filesystem::path& folder)
      : checkpoint(Checkpoint::open(folder)), layout(checkpoint) {}

  Checkpoint checkpoint;
  ExpertLayout layout;
};

class Bench {
 public:
  Bench(const BenchOptions& options, const OnBenchProgress& on_progress)
      : options_(options), on_progress_(on_progress) {
    prepare();
    progress_.measurements = cases_.size();
    progress_.runs = options.runs + 1;
  }

  BenchReport run() {
    report_.machine = describe_machine();
    measure_speeds();
    for (const BenchCase& what : cases_) {
      report_.measurements.push_back(measure_case(
          what,
          options_,
          {.open = [](const EngineOptions& o) { return Engine::open(o); },
           .on_run = [&](uint64_t run) { tell(what, run); },
           .memory_speed = [&](uint64_t room) { return memory_speed(room); }},
          report_.engine));
      ++progress_.measurement;
    }
    measure_speeds();
    take_best();
    add_figures();
    add_notes();
    return std::move(report_);
  }

 private:
  // Decides what is measured, and what it costs by arithmetic.
  void prepare() {
    const EngineOptions& engine = options_.engine;
    const Files files(engine.model);
    PlanFacts facts = gather_facts(engine, files.checkpoint, files.layout);
    const uint64_t fixed = engine.context_tokens;
    const auto limit = static_cast<uint64_t>(facts.shape.max_positions);
    BenchCases chosen = choose_cases(
        options_,
        fixed > 0 ? std::min(fixed, limit) : limit,
        [&](uint64_t room_tokens) {
          facts.context_tokens = fixed > 0 ? fixed : room_tokens;
          return divide_budget(facts);
        });
    cases_ = std::move(chosen.cases);
    report_.notes = std::move(chosen.notes);
    report_.work = work_of(
        files.checkpoint,
        files.layout,
        facts.shape,
        kv_position_bytes(facts, engine.device));
  }

  void tell(std::optional<BenchCase> what, uint64_t run) {
    progress_.what = what;
    progress_.run = run;
    if (on_progress_) {
      on_progress_(progress_);
    }
  }

  // Before and after all measurements: what differs shows that the machine was
  // not quiet.
  void measure_speeds() {
    tell(std::nullopt, 0);
    measure_memory();
    measure_disk();
    release_free_memory();
  }

  // Of the buffer that all are measured with, or not at all.
  double memory_speed(uint64_t room_bytes) const {
    const uint64_t bytes = report_.speeds.memory_buffer_bytes;
    if (bytes > std::min(room_bytes, read_memory_facts().free_bytes) ||
        options_.engine.device != Device::cpu) {
      return 0;
    }
    return measure_memory_speed(
        resolved_threads(options_.engine.threads),
        bytes,
        options_.probe_seconds / 2);
  }

  void measure_memory() {
    BenchSpeeds& speeds = report_.speeds;
    const uint64_t bytes = memory_probe_bytes(
        report_.machine.last_level_cache_bytes, read_memory_facts().free_bytes);
    speeds.memory_buffer_bytes = speeds.memory_gb_per_second.empty()
        ? bytes
        : std::min(bytes, speeds.memory_buffer_bytes);
    speeds.memory_gb_per_second.push_back(measure_memory_speed(
        resolved_threads(options_.engine.threads),
        bytes,
        options_.probe_seconds));
  }

  void measure_disk() {
    BenchSpeeds& speeds = report_.speeds;
    const Files files(options_.engine.model);
    const ReaderOptions setup = reader_options(files.layout);
    const auto reader =
        make_reader(options_.engine.reader, files.checkpoint.files(), setup);
    // Another order the second time, so that what a cache below us keeps of
    // the first is not read again at once.
    const DiskSpeed speed = measure_disk_speed(
        *reader,
        setup,
        files.checkpoint,
        files.layout,
        options_.probe_seconds,
        options_.seed + speeds.disk_gb_per_second.size());
    speeds.disk_gb_per_second.push_back(speed.gb_per_second());
    speeds.disk_read_bytes = speed.bytes / std::max<uint64_t>(speed.reads, 1);
    speeds.disk_depth = reader->depth();
    for (const auto& file : files.checkpoint.files()) {
      direct_ = direct_ && DirectFile(file).is_direct();
    }
  }

  void take_best() {
    BenchSpeeds& speeds = report_.speeds;
    speeds.best.memory_gb_per_second = best_of(speeds.memory_gb_per_second);
    speeds.best.disk_gb_per_second = best_of(speeds.disk_gb_per_second);
  }

  void add_figures() {
    BenchLimits limits = report_.speeds.best;
    if (options_.engine.device != Device::cpu) {
      limits.memory_gb_per_second = 0; // was measured by the processor
    }
    for (BenchMeasurement& measurement : report_.measurements) {
      const auto add = [&](BenchRun& run) {
        if (measurement.what.kind == BenchKind::decode &&
            run.memory_gb_per_second == 0) {
          run.memory_gb_per_second = limits.memory_gb_per_second;
        }
        const BenchLimits at_that_time{
            run.memory_gb_per_second, limits.disk_gb_per_second};
        run.figures = figures_of(
            run.counters, measurement.what, report_.work, at_that_time);
      };
      add(measurement.cold);
      std::for_each(measurement.warm.begin(), measurement.warm.end(), add);
    }
  }

  void add_notes() {
    const BenchMachine& machine = report_.machine;
    const BenchSpeeds& speeds = report_.speeds;
    note_change("memory", speeds.memory_gb_per_second);
    note_change("disk", speeds.disk_gb_per_second);
    if (speeds.memory_buffer_bytes < 2 * machine.last_level_cache_bytes) {
      note(fmt::format(
          "memory was measured with {}, which the cache of {} may hold in part",
          format_bytes(speeds.memory_buffer_bytes),
          format_bytes(machine.last_level_cache_bytes)));
    }
    const uint64_t token_bytes =
        report_.work.dense_bytes + report_.work.expert_bytes;
    if (token_bytes < machine.last_level_cache_bytes) {
      note(fmt::format(
          "the {} that a token needs fit the cache of {}: shares of memory's "
          "speed mean little",
          format_bytes(token_bytes),
          format_bytes(machine.last_level_cache_bytes)));
    }
    if (machine.last_level_cache_bytes == 0) {
      note(
          "the system does not say how large the caches are: memory may have "
          "been measured in them");
    }
    if (options_.engine.device != Device::cpu) {
      note(
          "memory and SIMD are of the processor, not of the GPU; there is no "
          "share of memory's speed");
    }
    if (!direct_) {
      note(
          "the model's files cannot be read around the page cache: reads may "
          "come from memory");
    }
  }

  void note_change(const char* what, const std::vector<double>& measured) {
    constexpr double kNoise = 1.2;
    const auto [least, most] =
        std::minmax_element(measured.begin(), measured.end());
    if (*most > kNoise * *least) {
      note(fmt::format(
          "{} gave {:.2f} GB/s before and {:.2f} GB/s after the measurements: "
          "the machine was not quiet",
          what,
          measured.front(),
          measured.back()));
    }
  }

  void note(std::string text) {
    report_.notes.push_back(std::move(text));
  }

  const BenchOptions& options_;
  const OnBenchProgress& on_progress_;
  std::vector<BenchCase> cases_;
  bool direct_ = true; // all files are read around the page cache
  BenchProgress progress_;
  BenchReport report_;
};

} // namespace

std::optional<BenchSpread> warm_spread(
    const BenchMeasurement& measurement,
    const BenchFigure& figure) {
  std::vector<double> values;
  for (const BenchRun& run : measurement.warm) {
    const auto& value = run.figures.*figure.value;
    if (!value) {
      return std::nullopt;
    }
    values.push_back(*value);
  }
  return spread_of(std::move(values));
}

BenchReport run_bench(
    const BenchOptions& options,
    const OnBenchProgress& on_progress) {
  validate(options);
  return Bench(options, on_progress).run();
}

} // namespace mlx_flash
