#include "engine/engine_core.h"

#include <mlx/device.h>
#include <mlx/memory.h>

#include <future>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/read_file.h"
#include "engine/checkpoint_weights.h"
#include "engine/embedding_form.h"
#include "engine/planner.h"
#include "models/registry.h"
#include "models/resident_experts.h"
#include "platform/large_pages.h"
#include "platform/machine_facts.h"
#include "platform/memory_facts.h"
#include "residency/eviction_policy.h"
#include "storage/checkpoint_identity.h"

namespace mlx_flash {

namespace mx = ops::mx;

namespace {

std::string precision_name(const EngineOptions& options) {
  if (options.device == Device::gpu) {
    return "native";
  }
  return resolved_precision(options.precision) == kernels::Precision::f32
      ? "f32"
      : "int8";
}

} // namespace

struct EngineCore::Machine {
  std::unique_ptr<Reader> reader;
  std::unique_ptr<ops::Ops> ops;
  std::unique_ptr<Model> model;
  std::unique_ptr<ops::KvCache> cache;
  // Streaming only, in the order of construction.
  std::optional<ops::ExpertBank> memory;
  std::optional<PagePopulator> populator; // ends before `memory` does
  std::unique_ptr<EvictionPolicy> policy;
  std::unique_ptr<SlotBank> bank;
  std::unique_ptr<ExpertFetcher> fetcher;
  std::unique_ptr<ExpertSource> experts;
  std::vector<MemoryBudget::Charge> charges;
  uint64_t load_bytes = 0;
  double load_seconds = 0;

  Machine(
      const EngineOptions& options,
      const EngineSeams& seams,
      const Checkpoint& checkpoint,
      const ExpertLayout& layout,
      const Plan& plan,
      const ChecksumTable* checksums,
      MemoryBudget& budget);

 private:
  void charge(MemoryBudget& budget, Account account, uint64_t bytes) {
    charges.push_back(budget.charge(account, bytes));
  }
  void make_ops(
      const EngineOptions& options,
      const EngineSeams& seams,
      const Plan& plan);
  void load(
      const Checkpoint& checkpoint,
      const ExpertLayout& layout,
      const ChecksumTable* checksums,
      MemoryBudget& budget,
      bool resident);
  void make_streaming(
      const EngineOptions& options,
      const ExpertLayout& layout,
      const Plan& plan,
      const ChecksumTable* checksums);
};

EngineCore::Machine::Machine(
    const EngineOptions& options,
    const EngineSeams& seams,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    const Plan& plan,
    const ChecksumTable* checksums,
    MemoryBudget& budget) {
  const double begin = now_seconds();
  reader = seams.make_reader
      ? seams.make_reader(checkpoint)
      : make_reader(options.reader, checkpoint.files(), reader_options(layout));
  charge(budget, Account::read_staging, reader->staging_bytes());
  make_ops(options, seams, plan);
  load(checkpoint, layout, checksums, budget, options.resident);
  if (!options.resident && !layout.layers().empty()) {
    charge(
        budget,
        Account::expert_slots,
        slots_bytes(plan.slots, plan.slot_bytes));
    make_streaming(options, layout, plan, checksums);
  }
  charge(
      budget,
      Account::kv_cache,
      kv_bytes(model->shape(), planned_kv_type(options), plan.context_tokens));
  cache = ops->make_kv_cache(
      model->shape().kv(), static_cast<int64_t>(plan.context_tokens));
  prefer_large_pages(cache->memory());
  load_bytes = reader->device_bytes();
  load_seconds = now_seconds() - begin;
}

void EngineCore::Machine::make_ops(
    const EngineOptions& options,
    const EngineSeams& seams,
    const Plan& plan) {
  if (seams.mlx_ops_on_cpu) {
    ops = std::make_unique<ops::MlxOps>(mx::Device::cpu, mx::float32);
  } else if (options.device == Device::cpu) {
    // MLX would keep freed buffers for later ones, beyond any account. The
    // system's allocator is as fast here.
    mx::set_cache_limit(0);
    ops = std::make_unique<ops::CpuOps>(
        resolved_threads(options.threads),
        resolved_precision(options.precision));
  } else if (mx::is_available(mx::Device::gpu)) {
    mx::set_cache_limit(plan_bytes(plan, Account::activations));
    ops = std::make_unique<ops::MlxOps>(mx::Device::gpu, mx::bfloat16);
  } else {
    fail(
        ErrorCode::unsupported,
        "[device] this machine has no GPU that MLX can use; run with "
        "--device cpu");
  }
}

void EngineCore::Machine::load(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    const ChecksumTable* checksums,
    MemoryBudget& budget,
    bool resident) {
  CheckpointWeights weights(checkpoint, layout, *reader, checksums, budget);
  model = make_model(checkpoint.config_json(), *ops, weights);
  std::map<int, ResidentExperts::Layer> layers;
  if (resident || layout.layers().empty()) {
    for (const LayerExperts& layer : layout.layers()) {
      layers.insert(
          {layer.layer, {expert_record(layer), weights.experts(layer.layer)}});
    }
    experts = std::make_unique<ResidentExperts>(*ops, std::move(layers));
  }
  weights.require_all_taken();
  weights.finish();
  for (auto& charge : weights.take_charges()) {
    charges.push_back(std::move(charge));
  }
}

void EngineCore::Machine::make_streaming(
    const EngineOptions& options,
    const ExpertLayout& layout,
    const Plan& plan,
    const ChecksumTable* checksums) {
  const ModelShape& shape = model->shape();
  const size_t pitch = plan.slot_bytes;
  memory.emplace(ops::ExpertBank{
      ops::DeviceBuffer(pitch * plan.slots, 4096), pitch, plan.slots});
  prefer_large_pages(memory->memory.span());
  populator.emplace(populating_threads());
  policy = make_policy(
      options.policy,
      {static_cast<uint32_t>(plan.slots),
       static_cast<uint32_t>(shape.layers),
       static_cast<uint32_t>(shape.experts),
       static_cast<uint32_t>(shape.experts_per_token)});
  bank = std::make_unique<SlotBank>(memory->memory.span(), pitch, *policy);
  fetcher = std::make_unique<ExpertFetcher>(*bank, *reader, layout, checksums);
  if (auto* cpu = dynamic_cast<ops::CpuOps*>(ops.get())) {
    experts = std::make_unique<CpuStreamedExperts>(
        *cpu, *bank, *fetcher, layout, *memory, *populator);
  } else {
    experts = std::make_unique<MlxStreamedExperts>(
        static_cast<ops::MlxOps&>(*ops),
        *bank,
        *fetcher,
        layout,
        *memory,
        *populator);
  }
}

namespace {

std::string optional_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) ? read_file(path, 16u << 20)
                                              : std::string();
}

void require_fit(const Plan& plan) {
  // A plan is an upper bound, and kernels round limits to pages.
  constexpr uint64_t kRounding = 64u << 10;
  const uint64_t total_bytes = read_memory_facts().total_bytes;
  if (plan.planned_bytes > total_bytes + kRounding) {
    fail(
        ErrorCode::out_of_budget,
        "[plan] {} would take {} bytes, but there are only {} here; give a "
        "smaller --memory or ask for a smaller context",
        plan.model,
        plan.planned_bytes,
        total_bytes);
  }
  if (plan.fits) {
    return;
  }
  fail(
      ErrorCode::out_of_budget,
      "[plan] {} needs at least {} bytes ({}) as it is asked for, with {} "
      "tokens of context, but the budget is {} bytes ({}, from {}); give "
      "--memory {} or ask for less (mlx-flash plan shows what takes it)",
      plan.model,
      plan.smallest_budget_bytes,
      format_bytes(plan.smallest_budget_bytes),
      plan.context_tokens,
      plan.budget_bytes,
      format_bytes(plan.budget_bytes),
      plan.budget_source,
      plan.smallest_budget_bytes);
}

uint64_t header_bytes(const Checkpoint& checkpoint) {
  std::vector<uint64_t> first(checkpoint.files().size(), UINT64_MAX);
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    first[tensor.file] = std::min(first[tensor.file], tensor.offset);
  }
  uint64_t total = 0;
  for (const uint64_t bytes : first) {
    total += bytes == UINT64_MAX ? 0 : bytes;
  }
  return total;
}

std::optional<GrammarLimits> grammar_limits(
    const Plan& plan,
    uint64_t compile_cost) {
  if (plan.constrained_answers == 0) {
    return std::nullopt;
  }
  return GrammarLimits{
      compile_cost,
      kMatcherStates,
      kMatcherBytes,
      shared_matcher_bytes(plan.constrained_answers, plan.context_tokens)};
}

} // namespace

EngineCore::EngineCore(const EngineOptions& options, const EngineSeams& seams)
    : options_(options),
      seams_(seams),
      checkpoint_(Checkpoint::open(options.model)),
      layout_(checkpoint_),
      shape_(read_model_shape(checkpoint_.config_json())),
      plan_(divide_budget(gather_facts(options, checkpoint_, layout_))),
      header_bytes_(header_bytes(checkpoint_)),
      budget_(plan_.budget_bytes) {
  require_fit(plan_);
  charge_planned();
  text_ = std::dynamic_pointer_cast<const ModelText>(options.text);
  if (!text_) {
    text_ = ModelText::load(options.model);
  }
  defaults_ = parse_generation_defaults(
      optional_file(options.model / "generation_config.json"),
      checkpoint_.config_json());
  embedding_ = find_embedding_form(options.model, shape_.hidden);
  grammars_.emplace(
      text_->tokenizer(),
      static_cast<size_t>(shape_.vocab),
      defaults_.eos_tokens,
      grammar_limits(plan_, options.grammar_cost));
  memory_watch_.include(text_->load_peak_bytes());
  release_free_memory();
  if (!options.checksums.empty()) {
    checksums_ = ChecksumTable::load(options.checksums, checkpoint_);
  }
  open_page_store();

  // Shared: setting a promise may outlast the wait for it.
  auto loaded = std::make_shared<std::promise<void>>();
  thread_ = std::make_unique<EngineThread>([this, loaded] {
    std::optional<Machine> machine;
    try {
      const MemoryFollower memory;
      machine.emplace(
          options_,
          seams_,
          checkpoint_,
          layout_,
          plan_,
          checksums_ ? &*checksums_ : nullptr,
          budget_);
      memory_watch_.include(memory.peak_bytes());
      publish(*machine, {});
      log::info(
          "[engine] loaded {} in {:.3f} s by {}; {} slots, {} prompt tokens "
          "in a step, {} threads, peak so far {}",
          format_bytes(machine->load_bytes),
          machine->load_seconds,
          machine->reader->name(),
          plan_.slots,
          plan_.prefill_chunk,
          resolved_threads(options_.threads),
          format_bytes(memory_watch_.peak_bytes()));
    } catch (...) {
      loaded->set_exception(std::current_exception());
      return;
    }
    loaded->set_value();
    serve(*machine);
  });
  loaded->get_future().get();
}

EngineCore::~EngineCore() {
  close();
}

void EngineCore::close() {
  closing_ = true;
  queue_.close();
  thread_.reset(); // waits
}

// What is allocated bit by bit, by libraries too, is charged as planned; the
// rest when it is allocated (Machine).
void EngineCore::charge_planned() {
  for (const Account account :
       {Account::program,
        Account::tokenizer,
        Account::activations,
        Account::grammar,
        Account::results,
        Account::prompt_cache}) {
    charges_.push_back(budget_.charge(account, plan_bytes(plan_, account)));
  }
}

// A page depends on the model, on how it is computed with and on the
// processor's instructions; results of another build may differ, too.
void EngineCore::open_page_store() {
  if (options_.prompt_cache.empty()) {
    return;
  }
  page_store_.emplace(PageStoreOptions{
      options_.prompt_cache,
      options_.prompt_cache_bytes,
      fmt::format(
          "{}\n{}\n{}\n{}",
          options_.build,
          read_machine_facts().cpu,
          precision_name(options_),
          checkpoint_identity(checkpoint_)),
      ops::kv_page_bytes(shape_.kv(), planned_kv_type(options_)),
      ops::kKvPageTokens});
}

void EngineCore::serve(Machine& machine) {
  Scheduler scheduler(
      {machine.model.get(),
       machine.experts.get(),
       machine.cache.get(),
       std::min<int64_t>(
           static_cast<int64_t>(plan_.context_tokens), shape_.max_positions),
       static_cast<int>(plan_.prefill_chunk),
       kLogitRows,
       options_.parallel > 0 ? options_.parallel : SIZE_MAX,
       &*grammars_,
       plan_.constrained_answers,
       options_.prefix_cache,
       page_store_ ? &*page_store_ : nullptr,
       options_.decode_gap_seconds,
       &closing_},
      {shape_.vocab,
       text_->tokenizer(),
       defaults_.eos_tokens,
       plan_bytes(plan_, Account::results) - options_.caller_bytes,
       embedding_});
  for (;;) {
    auto request = scheduler.idle() ? queue_.pop() : queue_.try_pop();
    if (request) {
      scheduler.accept(std::move(*request));
      continue; // take all that is waiting before the next step
    }
    if (scheduler.idle()) {
      return; // the queue is closed
    }
    if (closing_) {
      scheduler.cancel_all();
    }
    scheduler.step();
    publish(machine, scheduler.stats());
    scheduler.deliver();
  }
}

namespace {

// What MLX had allocated at once since the last call, beyond what it has now:
// the arrays that came and went within a step.
uint64_t mlx_transient_bytes() {
  const size_t peak = mx::get_peak_memory();
  const size_t active = mx::get_active_memory();
  mx::reset_peak_memory();
  return peak > active ? peak - active : 0;
}

bool had_no_prompt(const Stats& before, const Stats& now) {
  return now.prompt_steps == before.prompt_steps;
}

// Steps that only decode take no memory that the one before did not, but for
// keys and values, so it is looked at once in so many: looking is a system
// call, and they make no other.
constexpr uint64_t kStepsBetweenSamples = 64;

bool is_time_to_sample(const Stats& before, const Stats& now) {
  const bool only_decoded =
      now.steps > before.steps && had_no_prompt(before, now);
  return !only_decoded || now.steps % kStepsBetweenSamples == 0;
}

// What was looked up and read between the two, where that was no prompt's.
void count_decoding(const Stats& before, Stats& now) {
  now.decode_expert_hits = before.decode_expert_hits;
  now.decode_expert_misses = before.decode_expert_misses;
  now.decode_bytes_read = before.decode_bytes_read;
  if (had_no_prompt(before, now)) {
    now.decode_expert_hits += now.expert_hits - before.expert_hits;
    now.decode_expert_misses += now.expert_misses - before.expert_misses;
    now.decode_bytes_read += now.bytes_read_demand - before.bytes_read_demand;
  }
}

// Each token of a step waited as long as the step did.
void count_stalls(const Stats& before, Stats& now) {
  now.stall_per_token = before.stall_per_token;
  for (uint64_t i = before.decode_tokens; i < now.decode_tokens; ++i) {
    now.stall_per_token.observe(now.stall_seconds - before.stall_seconds);
  }
}

void log_step(const Stats& before, const Stats& now) {
  if (now.steps == before.steps ||
      !log::logger().should_log(spdlog::level::debug)) {
    return; // a session was opened or closed, or nobody wants to know
  }
  log::debug(
      "[step] {} prompt and {} decoded tokens, {} experts present, {} read "
      "({}), waited {:.2f} ms",
      now.prefill_tokens - before.prefill_tokens,
      now.decode_tokens - before.decode_tokens,
      now.expert_hits - before.expert_hits,
      now.expert_misses - before.expert_misses,
      format_bytes(now.bytes_read_demand - before.bytes_read_demand),
      1e3 * (now.stall_seconds - before.stall_seconds));
}

} // namespace

void EngineCore::publish(const Machine& machine, const Stats& work) {
  if (is_time_to_sample(stats_, work)) { // that only this thread writes
    memory_watch_.sample(mlx_transient_bytes());
  }
  Stats stats = work;
  if (machine.bank) {
    stats.expert_hits = machine.bank->hits();
    stats.expert_misses = machine.bank->misses();
    stats.expert_evictions = machine.bank->evictions();
    stats.slots_used = machine.bank->used_slots();
    stats.stall_seconds = machine.fetcher->stall_seconds();
    stats.read_latency = machine.fetcher->read_latency();
  }
  stats.bytes_read_load = machine.load_bytes + header_bytes_;
  stats.bytes_read_demand = machine.reader->device_bytes() - machine.load_bytes;
  stats.load_seconds = machine.load_seconds;
  stats.reader = machine.reader->name();
  std::lock_guard lock(stats_mutex_);
  count_decoding(stats_, stats);
  count_stalls(stats_, stats);
  log_step(stats_, stats);
  stats_ = stats;
}

Stats EngineCore::stats() const {
  Stats stats;
  {
    std::lock_guard lock(stats_mutex_);
    stats = stats_;
  }
  if (page_store_) {
    const PageStore::Counts counts = page_store_->counts();
    stats.prompt_cache_files = counts.files;
    stats.prompt_cache_bytes = counts.bytes;
    stats.prompt_cache_read = counts.read;
    stats.prompt_cache_written = counts.written;
    stats.prompt_cache_evicted = counts.given_up;
    stats.prompt_cache_failed = counts.failed;
  }
  stats.memory_pressure = read_memory_pressure();
  stats.slots = plan_.slots;
  stats.budget_bytes = plan_.budget_bytes;
  stats.planned_bytes = plan_.planned_bytes;
  memory_watch_.sample();
  stats.peak_bytes = memory_watch_.peak_bytes();
  stats.threads = resolved_threads(options_.threads);
  stats.precision = precision_name(options_);
  stats.policy = options_.resident ? "resident" : options_.policy;
  stats.device = options_.device == Device::cpu ? "cpu" : "gpu";
  return stats;
}

void EngineCore::submit(std::shared_ptr<Request> request) {
  if (!queue_.push(std::move(request))) {
    fail(ErrorCode::internal, "[engine] is closing");
  }
}

} // namespace mlx_flash
