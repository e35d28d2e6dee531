#include "engine/planner.h"

#include <algorithm>
#include <system_error>

#include "base/align.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/embedding_form.h"
#include "models/registry.h"
#include "platform/cpu_facts.h"
#include "platform/large_pages.h"
#include "platform/memory_facts.h"
#include "residency/eviction_policy.h"
#include "storage/page_store.h"

namespace mlx_flash {

namespace {

// Heap, libraries' data and stacks of a process with a model that takes
// nothing: measured, see docs/residency.md.
constexpr uint64_t kProgramBytes = 3u << 19;
constexpr uint64_t kThreadBytes = 64u << 10;
// The bank's and the policies' tables, per slot.
constexpr uint64_t kSlotTableBytes = 128;
// Page tables, which the kernel charges to the process's memory cgroup, have 8
// bytes for each page of 4096 where large ones cannot be had.
constexpr uint64_t kBytesPerTableByte = 512;
constexpr uint64_t kDefaultContext = 4096;
constexpr uint64_t kLeastResults = 64u << 10;
constexpr uint64_t kSmallestChunk = 8;
constexpr uint64_t kLargestChunk = 512;

// The tokens' trie was measured: 41 MB with a vocabulary of 151,936.
uint64_t grammar_bytes(const PlanFacts& facts) {
  if (!facts.grammars) {
    return 0;
  }
  const uint64_t matchers = planned_matchers(facts);
  return matchers * kMatcherBytes +
      shared_matcher_bytes(matchers, facts.context_tokens) +
      320ull * facts.shape.vocab;
}

uint64_t activations(const PlanFacts& facts, uint64_t chunk) {
  // Beside the step's arrays: the sampler's candidates and a row of logits,
  // and embeddings.
  return activation_bytes(
             facts.shape,
             static_cast<int64_t>(chunk),
             std::min<int64_t>(kLogitRows, static_cast<int64_t>(chunk)),
             facts.threads) +
      40ull * facts.shape.vocab + facts.embedding_bytes;
}

uint64_t program_bytes(const PlanFacts& facts) {
  const uint64_t mapped = facts.dense_bytes +
      kv_bytes(facts.shape, facts.kv_type, facts.context_tokens);
  return kProgramBytes + kThreadBytes * static_cast<uint64_t>(facts.threads) +
      facts.index_bytes + mapped / kBytesPerTableByte;
}

// Everything but the slots.
uint64_t fixed_bytes(const PlanFacts& facts, uint64_t chunk) {
  return program_bytes(facts) + facts.tokenizer_bytes + facts.dense_bytes +
      kv_bytes(facts.shape, facts.kv_type, facts.context_tokens) +
      activations(facts, chunk) + facts.staging_bytes + grammar_bytes(facts) +
      facts.result_bytes + facts.caller_bytes + facts.prompt_cache_bytes;
}

// The fewest slots that these facts allow.
uint64_t least_slots(const PlanFacts& facts) {
  if (facts.resident || facts.experts == 0) {
    return facts.experts;
  }
  return facts.slots ? std::min(*facts.slots, facts.experts)
                     : uint64_t(facts.shape.experts_per_token);
}

// The largest that takes an eighth of the budget at most and leaves room for
// the slots.
uint64_t choose_chunk(const PlanFacts& facts) {
  if (facts.prefill_chunk > 0) {
    return facts.prefill_chunk;
  }
  const uint64_t slots = slots_bytes(least_slots(facts), facts.slot_bytes);
  uint64_t chunk = kLargestChunk;
  while (chunk > kSmallestChunk &&
         (activations(facts, chunk) > facts.budget_bytes / 8 ||
          fixed_bytes(facts, chunk) + slots > facts.budget_bytes)) {
    chunk /= 2;
  }
  return chunk;
}

uint64_t choose_slots(const PlanFacts& facts, uint64_t fixed) {
  const uint64_t least = least_slots(facts);
  const uint64_t needed = facts.shape.experts_per_token;
  if (facts.slots && least < std::min(needed, facts.experts)) {
    fail(
        ErrorCode::invalid_argument,
        "[plan] {} slots are too few: every token of this model uses {} "
        "experts of a layer at once; give at least {}",
        *facts.slots,
        needed,
        needed);
  }
  if (facts.slots || facts.resident || facts.experts == 0) {
    return least;
  }
  const uint64_t room =
      facts.budget_bytes > fixed ? facts.budget_bytes - fixed : 0;
  return std::clamp(
      room / slots_bytes(1, facts.slot_bytes), least, facts.experts);
}

} // namespace

uint64_t shared_matcher_bytes(uint64_t matchers, uint64_t context_tokens) {
  // A byte of a text takes up to 36, and a lexeme 180: JSON of usual words.
  constexpr uint64_t kTokenBytes = 256;
  return matchers * kMatcherBytes + context_tokens * kTokenBytes;
}

// Room for one at least, and for more in what budget leaves it.
uint64_t planned_matchers(const PlanFacts& facts) {
  constexpr uint64_t kMost = 64;
  const uint64_t share = facts.budget_bytes / 64 / (2 * kMatcherBytes);
  const uint64_t wanted = facts.parallel > 0 ? facts.parallel : kMost;
  return facts.grammars ? std::clamp<uint64_t>(share, 1, wanted) : 0;
}

uint64_t slots_bytes(uint64_t slots, uint64_t slot_bytes) {
  return slots *
      (slot_bytes + slot_bytes / kBytesPerTableByte + kSlotTableBytes);
}

uint64_t kv_bytes(
    const ModelShape& shape,
    kernels::KvType type,
    uint64_t context_tokens) {
  // Every factor has a bound, but their product has none that fits.
  constexpr uint64_t kTooMuch = uint64_t{1} << 60;
  return std::min(
      kTooMuch,
      checked_mul(
          div_up(context_tokens, ops::kKvPageTokens),
          ops::kv_page_bytes(shape.kv(), type))
          .value_or(kTooMuch));
}

Plan divide_budget(const PlanFacts& facts) {
  const uint64_t chunk = choose_chunk(facts);
  const uint64_t fixed = fixed_bytes(facts, chunk);
  const uint64_t slots = choose_slots(facts, fixed);
  const uint64_t least_chunk =
      facts.prefill_chunk > 0 ? facts.prefill_chunk : kSmallestChunk;

  Plan plan;
  plan.model = facts.model;
  plan.model_type = facts.model_type;
  plan.model_bytes = facts.model_bytes;
  plan.budget_bytes = facts.budget_bytes;
  plan.budget_source = facts.budget_source;
  const auto account = [&](Account name, uint64_t bytes) {
    plan.accounts.push_back({std::string(account_name(name)), bytes});
    plan.planned_bytes += bytes;
  };
  account(Account::program, program_bytes(facts));
  account(Account::tokenizer, facts.tokenizer_bytes);
  account(Account::dense_weights, facts.dense_bytes);
  account(Account::expert_slots, slots_bytes(slots, facts.slot_bytes));
  account(
      Account::kv_cache,
      kv_bytes(facts.shape, facts.kv_type, facts.context_tokens));
  account(Account::activations, activations(facts, chunk));
  account(Account::read_staging, facts.staging_bytes);
  account(Account::grammar, grammar_bytes(facts));
  account(Account::results, facts.result_bytes + facts.caller_bytes);
  account(Account::prompt_cache, facts.prompt_cache_bytes);
  plan.fits = plan.planned_bytes <= plan.budget_bytes;
  plan.smallest_budget_bytes = fixed_bytes(facts, least_chunk) +
      slots_bytes(least_slots(facts), facts.slot_bytes);
  plan.full_budget_bytes = fixed + slots_bytes(facts.experts, facts.slot_bytes);
  plan.slots = slots;
  plan.slot_bytes = facts.slot_bytes;
  plan.experts = facts.experts;
  plan.experts_per_token = facts.shape.experts_per_token;
  plan.expert_layers = facts.shape.expert_layers.size();
  plan.context_tokens = facts.context_tokens;
  plan.model_context = static_cast<uint64_t>(facts.shape.max_positions);
  plan.prefill_chunk = chunk;
  plan.constrained_answers = planned_matchers(facts);
  return plan;
}

uint64_t plan_bytes(const Plan& plan, Account account) {
  for (const PlanAccount& entry : plan.accounts) {
    if (entry.name == account_name(account)) {
      return entry.bytes;
    }
  }
  return 0;
}

uint64_t dense_tensor_bytes(const TensorInfo& tensor) {
  constexpr uint64_t kOverhead = 256; // alignment, heap
  // Vectors are kept in f32.
  const uint64_t bytes = tensor.shape.size() == 1
      ? tensor.bytes / dtype_bytes(tensor.dtype) * 4
      : tensor.bytes;
  return round_up(bytes, 64) + kOverhead;
}

uint64_t dense_tensors_bytes(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout) {
  uint64_t total = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (!layout.is_expert_tensor(tensor.name)) {
      total += dense_tensor_bytes(tensor);
    }
  }
  return total;
}

uint64_t dense_bytes(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    uint64_t arena_bytes) {
  const uint64_t total = dense_tensors_bytes(checkpoint, layout);
  if (total <= arena_bytes) {
    return total;
  }
  // A tensor that does not fit the rest of an arena leaves a page half used.
  // Two arenas that follow each other hold more than the bytes of one.
  const uint64_t most_arenas = 2 * div_up(total, arena_bytes);
  return total + most_arenas * kLargePageBytes;
}

ReaderOptions reader_options(const ExpertLayout& layout) {
  ReaderOptions options;
  options.block_bytes = staging_block_bytes(layout.largest_section_bytes());
  return options;
}

int resolved_threads(int requested) {
  return requested > 0 ? requested : usable_cpus();
}

kernels::Precision resolved_precision(const std::string& requested) {
  return requested == "f32" ? kernels::Precision::f32
                            : kernels::Precision::int8;
}

kernels::KvType planned_kv_type(const EngineOptions& options) {
  return options.device == Device::gpu
      ? kernels::KvType::f32
      : kernels::kv_type(resolved_precision(options.precision));
}

namespace {

// Measured with vocabularies of 4,096 to 201,088 entries: files of 0.26, 4.8
// and 12 MB take 2, 34 and 42 MB, and 49 and 95 MB for a moment while they are
// parsed.
uint64_t tokenizer_bytes(const std::filesystem::path& folder) {
  std::error_code error;
  const auto bytes =
      std::filesystem::file_size(folder / "tokenizer.json", error);
  return error ? 0 : 1'000'000 + 10 * bytes;
}

[[noreturn]] void wrong_experts(
    const Checkpoint& checkpoint,
    int layer,
    const std::string& what) {
  fail(
      ErrorCode::bad_model,
      "[plan] {}: layer {} {}",
      checkpoint.folder().string(),
      layer,
      what);
}

void require_projection(
    const Checkpoint& checkpoint,
    const LayerExperts& layer,
    Projection which,
    int64_t out,
    int64_t in) {
  const ProjectionLayout& p = layer.projections[static_cast<int>(which)];
  if (p.out != out || p.in != in) {
    wrong_experts(
        checkpoint,
        layer.layer,
        fmt::format(
            "has expert matrices of {} x {} where config.json asks for {} x {}",
            p.out,
            p.in,
            out,
            in));
  }
}

// The experts in the files are those that the config speaks of.
void require_experts(
    const ModelShape& shape,
    const ExpertLayout& layout,
    const Checkpoint& checkpoint) {
  for (const int number : shape.expert_layers) {
    const LayerExperts* layer = layout.layer(static_cast<uint16_t>(number));
    if (!layer || layer->experts != shape.experts) {
      wrong_experts(
          checkpoint,
          number,
          fmt::format(
              "has {} experts in the weight files, but config.json says {}",
              layer ? layer->experts : 0,
              shape.experts));
    }
    const int64_t inner = shape.expert_inner;
    const int64_t hidden = shape.hidden;
    require_projection(checkpoint, *layer, Projection::gate, inner, hidden);
    require_projection(checkpoint, *layer, Projection::up, inner, hidden);
    require_projection(checkpoint, *layer, Projection::down, hidden, inner);
  }
  if (layout.layers().size() != shape.expert_layers.size()) {
    fail(
        ErrorCode::bad_model,
        "[plan] {}: {} layers have experts in the weight files, but "
        "config.json says {}",
        checkpoint.folder().string(),
        layout.layers().size(),
        shape.expert_layers.size());
  }
}

// What is left for everybody else, and for program code: a cgroup counts what
// we are the first to touch, and the budget does not.
uint64_t margin(const MemoryFacts& memory) {
  constexpr uint64_t kProgramCode = 16u << 20;
  return memory.free_bytes / 16 + kProgramCode;
}

uint64_t context_tokens(const EngineOptions& options, const ModelShape& shape) {
  const auto limit = static_cast<uint64_t>(shape.max_positions);
  if (options.single_session && options.context_tokens > limit) {
    fail(
        ErrorCode::invalid_argument,
        "[engine] a context of {} tokens is more than the model's own limit of "
        "{}",
        options.context_tokens,
        limit);
  }
  if (options.context_tokens > 0) {
    return options.context_tokens;
  }
  return std::min<uint64_t>(
      options.context_wanted > 0 ? options.context_wanted : kDefaultContext,
      limit);
}

void set_budget(PlanFacts& facts, const EngineOptions& options) {
  const MemoryFacts memory = read_memory_facts();
  if (!options.memory.empty()) {
    facts.budget_bytes = parse_memory_size(options.memory, memory.total_bytes);
    facts.budget_source = "--memory";
    if (facts.budget_bytes > memory.total_bytes) {
      log::warn(
          "[memory] the budget of {} is more than the {} that there are",
          format_bytes(facts.budget_bytes),
          format_bytes(memory.total_bytes));
    }
    return;
  }
  facts.budget_bytes =
      memory.free_bytes - std::min(memory.free_bytes, margin(memory));
  facts.budget_source = memory.bound_by;
}

[[noreturn]] void refuse_option(
    const char* name,
    const std::string& value,
    const std::string& range) {
  fail(
      ErrorCode::invalid_argument,
      "[engine] {} is {}; it must be {}",
      name,
      value,
      range);
}

void require_at_most(const char* name, uint64_t value, uint64_t most) {
  if (value > most) {
    refuse_option(name, std::to_string(value), fmt::format("at most {}", most));
  }
}

} // namespace

void validate(const EngineOptions& options) {
  require_at_most("context_tokens", options.context_tokens, 1u << 30);
  require_at_most("context_wanted", options.context_wanted, 1ull << 40);
  require_at_most("prefill_chunk", options.prefill_chunk, 1u << 16);
  require_at_most("result_bytes", options.result_bytes, 1ull << 40);
  require_at_most("caller_bytes", options.caller_bytes, 1ull << 40);
  if (options.grammar_cost < 1000 || options.grammar_cost > (1ull << 32)) {
    refuse_option(
        "grammar_cost",
        std::to_string(options.grammar_cost),
        "1000 to 4294967296");
  }
  require_at_most("parallel", options.parallel, 1u << 12);
  require_at_most("max_sessions", options.max_sessions, 1u << 12);
  if (!(options.decode_gap_seconds > 0)) {
    refuse_option(
        "decode_gap_seconds",
        std::to_string(options.decode_gap_seconds),
        "more than 0");
  }
  if (options.prefix_cache && options.device == Device::gpu) {
    fail(
        ErrorCode::invalid_argument,
        "[engine] prefixes are kept on the CPU device alone; open the engine "
        "without prefix_cache");
  }
  if (!options.prompt_cache.empty() && !options.prefix_cache) {
    fail(
        ErrorCode::invalid_argument,
        "[engine] a prompt cache on disk needs prefixes to be kept, which is "
        "on the CPU device alone; leave it out");
  }
  require_at_most("prompt_cache_bytes", options.prompt_cache_bytes, 1ull << 50);
  require_at_most("slots", options.slots.value_or(0), 1u << 31);
  if (options.threads < 0 || options.threads > 1024) {
    refuse_option("threads", std::to_string(options.threads), "0 to 1024");
  }
  if (options.precision != "auto" && options.precision != "int8" &&
      options.precision != "f32") {
    refuse_option(
        "precision", "'" + options.precision + "'", "auto, int8 or f32");
  }
  if (options.precision != "auto" && options.device == Device::gpu) {
    fail(
        ErrorCode::invalid_argument,
        "[engine] precision {} is a choice of the CPU device; a GPU computes "
        "in the checkpoint's own type",
        options.precision);
  }
  require_policy(options.policy);
  if (options.reader != "auto" && options.reader != "uring" &&
      options.reader != "pread") {
    refuse_option("reader", "'" + options.reader + "'", "auto, uring or pread");
  }
  if (options.resident && options.slots) {
    fail(
        ErrorCode::invalid_argument,
        "[engine] resident keeps every expert in memory; slots cannot limit "
        "them");
  }
}

PlanFacts gather_facts(
    const EngineOptions& options,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout) {
  validate(options);
  PlanFacts facts;
  facts.model = checkpoint.folder().string();
  facts.model_type = checkpoint.model_type();
  facts.model_bytes = checkpoint.file_bytes();
  facts.shape = read_model_shape(checkpoint.config_json());
  require_experts(facts.shape, layout, checkpoint);
  facts.dense_bytes = dense_bytes(checkpoint, layout);
  facts.index_bytes = checkpoint.tensors().size() * 256 +
      layout.expert_count() * 9 * sizeof(Section);
  facts.tokenizer_bytes = tokenizer_bytes(options.model);
  const ReaderOptions reader = reader_options(layout);
  facts.staging_bytes = reader.staging_blocks() * reader.block_bytes;
  facts.slot_bytes = layout.slot_bytes();
  facts.experts = layout.expert_count();
  facts.threads = resolved_threads(options.threads);
  facts.kv_type = planned_kv_type(options);
  facts.context_tokens = context_tokens(options, facts.shape);
  facts.grammars = options.grammars;
  facts.parallel = options.parallel;
  if (find_embedding_form(options.model, facts.shape.hidden).pooling !=
      Pooling::none) {
    // A sum of f64 and a result of f32, of every session at most.
    facts.embedding_bytes = 12ull * static_cast<uint64_t>(facts.shape.hidden) *
        (options.parallel > 0 ? options.parallel : options.max_sessions);
  }
  facts.result_bytes = std::max(kLeastResults, options.result_bytes);
  facts.caller_bytes = options.caller_bytes;
  if (!options.prompt_cache.empty()) {
    facts.prompt_cache_bytes = PageStore::memory_bytes(
        options.prompt_cache_bytes,
        ops::kv_page_bytes(facts.shape.kv(), facts.kv_type));
  }
  facts.prefill_chunk = options.prefill_chunk;
  facts.slots = options.slots;
  facts.resident = options.resident;
  set_budget(facts, options);
  return facts;
}

Plan make_plan(const EngineOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ExpertLayout layout(checkpoint);
  return divide_budget(gather_facts(options, checkpoint, layout));
}

} // namespace mlx_flash
