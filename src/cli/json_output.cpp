#include "cli/json_output.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::cli {

namespace {

using Json = nlohmann::ordered_json; // fields in the order written here

std::string line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json of(const Stats& stats) {
  return {
      {"steps", stats.steps},
      {"prompt_steps", stats.prompt_steps},
      {"mixed_steps", stats.mixed_steps},
      {"prefill_tokens", stats.prefill_tokens},
      {"prefill_seconds", stats.prefill_seconds},
      {"decode_tokens", stats.decode_tokens},
      {"decode_seconds", stats.decode_seconds},
      {"expert_hits", stats.expert_hits},
      {"expert_misses", stats.expert_misses},
      {"expert_evictions", stats.expert_evictions},
      {"bytes_read_demand", stats.bytes_read_demand},
      {"bytes_read_prefetch", stats.bytes_read_prefetch},
      {"bytes_read_load", stats.bytes_read_load},
      {"decode_expert_hits", stats.decode_expert_hits},
      {"decode_expert_misses", stats.decode_expert_misses},
      {"decode_bytes_read", stats.decode_bytes_read},
      {"stall_seconds", stats.stall_seconds},
      {"slots", stats.slots},
      {"slots_used", stats.slots_used},
      {"budget_bytes", stats.budget_bytes},
      {"planned_bytes", stats.planned_bytes},
      {"peak_bytes", stats.peak_bytes},
      {"load_seconds", stats.load_seconds},
      {"threads", stats.threads},
      {"precision", stats.precision},
      {"reader", stats.reader},
      {"policy", stats.policy},
      {"device", stats.device},
  };
}

} // namespace

std::string
run_json(const GenerationResult& result, uint64_t seed, const Stats& stats) {
  return line({
      {"text", result.text},
      {"prompt_tokens", result.prompt_tokens},
      {"tokens", result.tokens},
      {"finish_reason", finish_reason_name(result.finish_reason)},
      {"seed", seed},
      {"stats", of(stats)},
  });
}

void score_json(
    const ScoreResult& result,
    const Stats& stats,
    const std::function<void(const std::string&)>& write) {
  const Json ids = result.ids;
  const Json logprobs = result.logprobs;
  write(
      "{\"ids\":" + ids.dump() + ",\"logprobs\":" + logprobs.dump() +
      ",\"top\":[");
  const char* separator = "";
  for (const auto& candidates : result.top) {
    Json position = Json::array();
    for (const auto& candidate : candidates) {
      position.push_back(Json::array({candidate.id, candidate.logprob}));
    }
    write(separator + position.dump());
    separator = ",";
  }
  const std::string rest =
      line({{"perplexity", result.perplexity}, {"stats", of(stats)}});
  write("]," + rest.substr(1)); // without its brace
}

std::string plan_json(const Plan& plan) {
  Json accounts = Json::object();
  for (const PlanAccount& account : plan.accounts) {
    accounts[account.name] = account.bytes;
  }
  return line({
      {"model", plan.model},
      {"model_type", plan.model_type},
      {"model_bytes", plan.model_bytes},
      {"budget_bytes", plan.budget_bytes},
      {"budget_source", plan.budget_source},
      {"accounts", std::move(accounts)},
      {"planned_bytes", plan.planned_bytes},
      {"fits", plan.fits},
      {"smallest_budget_bytes", plan.smallest_budget_bytes},
      {"full_budget_bytes", plan.full_budget_bytes},
      {"slots", plan.slots},
      {"slot_bytes", plan.slot_bytes},
      {"experts", plan.experts},
      {"experts_per_token", plan.experts_per_token},
      {"expert_layers", plan.expert_layers},
      {"context_tokens", plan.context_tokens},
      {"model_context", plan.model_context},
      {"prefill_chunk", plan.prefill_chunk},
  });
}

std::string tokens_json(
    std::span<const TokenId> ids,
    const std::vector<std::string>& pieces) {
  return line({
      {"ids", std::vector<TokenId>(ids.begin(), ids.end())},
      {"pieces", pieces},
  });
}

std::string text_json(const std::string& text) {
  Json object = Json::object();
  object["text"] = text;
  return line(object);
}

} // namespace mlx_flash::cli
