#include "server/api/own_hints.h"

#include <fmt/format.h>

namespace mlx_flash::server {

namespace {

// Before that many lookups the cache is still being filled.
constexpr uint64_t kLookupsToJudge = 1000;
constexpr double kGoodHitRatio = 0.99;
// Of the time in which there is work.
constexpr double kMuchStall = 0.25;

// Such as "17.5GB"; one that --memory takes.
std::string as_size(uint64_t bytes) {
  const auto size = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.1f}MB", size / 1e6)
                               : fmt::format("{:.1f}GB", size / 1e9);
}

void hint_about_model(const HintFacts& facts, std::vector<Hint>& hints) {
  if (facts.model.state == ModelStatus::State::failed) {
    hints.push_back({"critical", "fix_model", facts.model.error});
  }
}

void hint_about_queue(const HintFacts& facts, std::vector<Hint>& hints) {
  if (facts.waiting > 0 && facts.running >= facts.parallel) {
    hints.push_back(
        {"warning",
         "raise_parallel",
         fmt::format(
             "{} requests wait because {} answers are in progress, as many as "
             "may be; raise --parallel if memory allows it",
             facts.waiting,
             facts.running)});
  }
}

void hint_about_memory(const HintFacts& facts, std::vector<Hint>& hints) {
  const Stats& stats = *facts.stats;
  const uint64_t lookups =
      stats.decode_expert_hits + stats.decode_expert_misses;
  if (facts.plan->full_budget_bytes <= stats.budget_bytes ||
      lookups < kLookupsToJudge) {
    return;
  }
  const double hits = static_cast<double>(stats.decode_expert_hits) /
      static_cast<double>(lookups);
  const double busy = stats.prefill_seconds + stats.decode_seconds;
  const double stall = busy > 0 ? stats.stall_seconds / busy : 0;
  if (hits >= kGoodHitRatio) {
    return;
  }
  hints.push_back(
      {stall > kMuchStall ? "warning" : "info",
       "raise_memory",
       fmt::format(
           "{:.1f} % of the experts that answers needed were in memory, and "
           "{:.0f} % of the time went into waiting for the disk; more --memory "
           "makes it faster, up to {} with which nothing is read",
           100 * hits,
           100 * stall,
           as_size(facts.plan->full_budget_bytes))});
}

void hint_about_context(const Plan& plan, std::vector<Hint>& hints) {
  if (plan.context_tokens < plan.model_context) {
    hints.push_back(
        {"info",
         "raise_context",
         fmt::format(
             "there is room for {} tokens of all conversations together, and "
             "the model can take {} in one; --ctx makes more room, with less "
             "memory left for experts",
             plan.context_tokens,
             plan.model_context)});
  }
}

void hint_about_release(const HintFacts& facts, std::vector<Hint>& hints) {
  if (facts.model.state == ModelStatus::State::released) {
    hints.push_back(
        {"info",
         "load_model",
         "no model is loaded, so that the next request has to wait for it; "
         "POST /v1/models/switch loads one"});
  }
}

} // namespace

std::vector<Hint> find_hints(const HintFacts& facts) {
  std::vector<Hint> hints;
  hint_about_model(facts, hints);
  hint_about_queue(facts, hints);
  if (facts.stats && facts.plan) {
    hint_about_memory(facts, hints);
    hint_about_context(*facts.plan, hints);
  }
  hint_about_release(facts, hints);
  return hints;
}

} // namespace mlx_flash::server
