// Streamed equals resident, on any model, with the public API alone.
#include "engine/verify_with.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/rng.h"
#include "engine/planner.h"
#include "storage/checksums.h"

namespace mlx_flash {

namespace {

// Long enough for several chunks and for waves of experts, with a few single
// tokens behind it as decoding has them.
constexpr size_t kPromptTokens = 48;
constexpr size_t kSingleTokens = 8;

std::vector<TokenId> prompt_of(uint64_t vocab, size_t tokens) {
  Rng rng(20260101);
  std::vector<TokenId> ids;
  while (ids.size() < tokens) {
    ids.push_back(static_cast<TokenId>(rng.below(vocab)));
  }
  return ids;
}

std::vector<float> logits_of(
    const EngineOptions& options,
    const OpenEngine& open) {
  const auto engine = open(options);
  const auto session = engine->new_session();
  // Less than usual where the model has no room for it.
  const auto prompt =
      prompt_of(engine->vocab_size(), engine->plan().context_tokens);
  const std::span<const TokenId> ids(prompt);
  const size_t singles = std::min(kSingleTokens, ids.size() - 1);
  std::vector<float> logits =
      session->extend(ids.first(ids.size() - singles), Session::Logits::last);
  for (const TokenId id : ids.last(singles)) {
    const auto row = session->extend({&id, 1});
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

std::string difference(
    const std::vector<float>& got,
    const std::vector<float>& expected) {
  for (size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0) {
      return fmt::format(
          "number {} of the {} logits is {} instead of {}",
          i,
          expected.size(),
          got[i],
          expected[i]);
    }
  }
  return got.size() == expected.size() ? "" : "another number of logits";
}

VerifyCase run_case(
    const EngineOptions& options,
    const OpenEngine& open,
    const std::string& what,
    const std::vector<float>& expected) {
  VerifyCase result{what, false, ""};
  try {
    result.detail = difference(logits_of(options, open), expected);
    result.passed = result.detail.empty();
  } catch (const Error& error) {
    result.detail = error.what();
  }
  return result;
}

// From the fewest that work to as many as fit.
std::vector<uint64_t> slot_counts(const Plan& plan) {
  const uint64_t least = plan.experts_per_token;
  const uint64_t most = plan.slots;
  std::vector<uint64_t> counts{least, plan.experts / 4, plan.experts / 2, most};
  for (uint64_t& count : counts) {
    count = std::clamp(count, least, most);
  }
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

} // namespace

int verify_streaming(
    const EngineOptions& options,
    const std::function<void(const VerifyCase&)>& on_case) {
  return verify_with(
      options, [](const auto& each) { return Engine::open(each); }, on_case);
}

int verify_with(
    const EngineOptions& options,
    const OpenEngine& open,
    const std::function<void(const VerifyCase&)>& on_case) {
  EngineOptions base = options;
  base.context_wanted = kPromptTokens + kSingleTokens;
  int failed = 0;
  const auto report = [&](const VerifyCase& result) {
    failed += result.passed ? 0 : 1;
    on_case(result);
  };

  EngineOptions reference = base;
  reference.resident = true;
  const bool resident = make_plan(reference).fits;
  const Plan plan = make_plan(base);
  if (!resident) {
    reference = base;
    reference.slots = plan.slots;
  }
  const std::vector<float> expected = logits_of(reference, open);
  report(
      {resident
           ? fmt::format("reference: all {} experts resident", plan.experts)
           : fmt::format(
                 "reference: {} slots, as {} do not fit the budget",
                 plan.slots,
                 plan.experts),
       !expected.empty(),
       ""});
  if (plan.experts == 0) {
    return failed;
  }
  for (const uint64_t slots : slot_counts(plan)) {
    for (const char* policy : {"efd", "lru"}) {
      EngineOptions streamed = base;
      streamed.slots = slots;
      streamed.policy = policy;
      report(run_case(
          streamed,
          open,
          fmt::format("{} of {} slots, {}", slots, plan.experts, policy),
          expected));
    }
  }
  return failed;
}

namespace {

// The whole model's sums, and those of `file` if there is one.
struct Sums {
  ChecksumTable now;
  std::optional<ChecksumTable> then;

  Sums(const EngineOptions& options, const std::filesystem::path& file = {}) {
    const Checkpoint checkpoint = Checkpoint::open(options.model);
    const ExpertLayout layout(checkpoint);
    if (!file.empty()) {
      then = ChecksumTable::load(file, checkpoint);
    }
    const auto reader =
        make_reader(options.reader, checkpoint.files(), reader_options(layout));
    now = ChecksumTable::compute(checkpoint, layout, *reader);
  }
};

} // namespace

void write_checksums(
    const EngineOptions& options,
    const std::filesystem::path& file) {
  std::error_code error;
  if (std::filesystem::exists(file, error)) {
    fail(
        ErrorCode::invalid_argument,
        "[checksums] {} exists; compare the model with it (--checksums), or "
        "remove it",
        file.string());
  }
  Sums(options).now.save(file);
}

std::string compare_checksums(
    const EngineOptions& options,
    const std::filesystem::path& file) {
  const Sums sums(options, file);
  return sums.now.difference(*sums.then);
}

} // namespace mlx_flash
