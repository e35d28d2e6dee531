#include "cli/engine_flags.h"

#include <limits>

#include "base/error.h"
#include "base/log.h"

namespace mlx_flash::cli {

namespace {
constexpr uint64_t kMany = std::numeric_limits<int32_t>::max();
} // namespace

void EngineFlags::declare_model(Flags& flags) {
  flags.positional("MODEL", model_, "Folder of a model in safetensors");
}

void EngineFlags::declare_memory(Flags& flags) {
  flags.group("Memory");
  flags.text(
      "--memory,--ram",
      memory_,
      "SIZE",
      "24MB, 4GB, 50% of all memory (default: the free)");
}

void EngineFlags::declare_threads(Flags& flags) {
  flags.count(
      "--threads",
      threads_,
      1,
      1024,
      "Threads that compute (default: all processors)");
}

void EngineFlags::declare_plan(Flags& flags, const char* default_context) {
  declare_memory(flags);
  flags.count(
      "--slots",
      slots_,
      1,
      kMany,
      "Experts in memory, at most (default: all that fit)");
  flags.toggle("--resident", resident_, "Keep every expert in memory");
  flags.count(
      "--ctx",
      context_tokens_,
      1,
      kMany,
      fmt::format("Tokens of context (default: {})", default_context).c_str());
  flags.count(
      "--prefill-chunk",
      prefill_chunk_,
      1,
      65536,
      "Prompt tokens in a step (default: what fits)");
  flags.group("Machine");
  declare_threads(flags);
  flags.choice(
      "--precision",
      precision_,
      {"int8", "f32"},
      "Of activations, keys and values (default: int8)");
}

void EngineFlags::declare_all(Flags& flags, const char* log_level) {
  usual_log_level_ = log_level;
  declare_plan(flags, "what is needed");
  flags.choice(
      "--reader",
      reader_,
      {"auto", "uring", "pread"},
      "How files are read (default: auto)");
  flags.choice(
      "--device", device_, {"cpu", "gpu"}, "What computes (default: cpu)");
  flags.group("Streaming");
  flags.choice(
      "--policy,--cache-policy",
      policy_,
      {"efd", "lru"},
      "Which expert makes room (default: efd)");
  flags.text(
      "--checksums",
      checksums_,
      "FILE",
      "Compare all reads with this file, from verify");
  flags.group("Messages");
  flags.toggle("--quiet", quiet_, "No status and no summary on standard error");
  flags.choice(
      "--log-level",
      log_level_,
      {"error", "warn", "info", "debug"},
      fmt::format("Events to report (default: {})", log_level).c_str());
}

void EngineFlags::set_model(const std::optional<std::string>& model) {
  if (model && model_) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] a MODEL and --model are both given; leave one out");
  }
  model_ = model ? model : model_;
}

const std::string& EngineFlags::model() const {
  if (!model_) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] MODEL is missing: the folder of a model");
  }
  return *model_;
}

EngineOptions EngineFlags::options(uint64_t context_tokens) const {
  if (resident_ && slots_) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] --resident keeps every expert in memory; --slots cannot "
        "limit them");
  }
  log::set_level(
      log_level_.value_or(quiet_ ? "error" : usual_log_level_).c_str());
  EngineOptions options;
  options.model = model();
  options.memory = memory_.value_or("");
  options.slots = slots_;
  options.resident = resident_;
  options.context_tokens = context_tokens_.value_or(0);
  options.context_wanted = context_tokens;
  options.single_session = true;
  options.prefill_chunk = prefill_chunk_.value_or(0);
  options.threads = static_cast<int>(threads_.value_or(0));
  options.precision = precision_.value_or(options.precision);
  options.reader = reader_.value_or(options.reader);
  options.policy = policy_.value_or(options.policy);
  options.device = device_ == "gpu" ? Device::gpu : Device::cpu;
  options.checksums = checksums_.value_or("");
  return options;
}

} // namespace mlx_flash::cli
