#include "cli/json_output.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

using namespace mlx_flash;
using namespace mlx_flash::cli;
using nlohmann::json;

namespace {

std::vector<std::string> names(const json& object) {
  std::vector<std::string> result;
  for (const auto& [name, value] : object.items()) {
    result.push_back(name);
  }
  return result; // sorted
}

} // namespace

TEST_CASE("json output: a run has its fields, and every statistic") {
  GenerationResult result;
  result.text = "hello \"world\"\n";
  result.tokens = {1, 4294967295};
  result.prompt_tokens = 3;
  result.finish_reason = FinishReason::length;
  Stats stats;
  stats.bytes_read_demand = 1ull << 60;
  stats.reader = "uring";
  const std::string text = run_json(result, 7, stats);
  CHECK(text.back() == '\n');
  CHECK(text.find('\n') == text.size() - 1);
  const json object = json::parse(text);
  CHECK(object["text"] == "hello \"world\"\n");
  CHECK(object["tokens"] == json::parse("[1, 4294967295]"));
  CHECK(object["prompt_tokens"] == 3);
  CHECK(object["finish_reason"] == "length");
  CHECK(object["seed"] == 7);
  CHECK(object["stats"]["bytes_read_demand"] == 1ull << 60);
  CHECK(object["stats"]["reader"] == "uring");
  CHECK(
      names(object["stats"]) ==
      std::vector<std::string>{
          "budget_bytes",
          "bytes_read_demand",
          "bytes_read_load",
          "bytes_read_prefetch",
          "decode_bytes_read",
          "decode_expert_hits",
          "decode_expert_misses",
          "decode_seconds",
          "decode_tokens",
          "device",
          "expert_evictions",
          "expert_hits",
          "expert_misses",
          "load_seconds",
          "mixed_steps",
          "peak_bytes",
          "planned_bytes",
          "policy",
          "precision",
          "prefill_seconds",
          "prefill_tokens",
          "prompt_steps",
          "reader",
          "slots",
          "slots_used",
          "stall_seconds",
          "steps",
          "threads"});
}

namespace {
std::string score_text(const ScoreResult& result) {
  std::string text;
  score_json(result, {}, [&](const std::string& part) { text += part; });
  return text;
}
} // namespace

TEST_CASE("json output: a score lists [id, logprob] for each position") {
  ScoreResult result;
  result.ids = {5, 6, 7};
  result.logprobs = {-1.25, -0.5};
  result.top = {{{6, -0.5}, {1, -2}}, {{7, -0.5}}};
  result.perplexity = 2.5;
  const json object = json::parse(score_text(result));
  CHECK(object["ids"] == json::parse("[5, 6, 7]"));
  CHECK(object["logprobs"] == json::parse("[-1.25, -0.5]"));
  CHECK(object["top"] == json::parse("[[[6, -0.5], [1, -2.0]], [[7, -0.5]]]"));
  CHECK(object["perplexity"] == 2.5);
  CHECK(object["stats"].is_object());
  result.top.clear();
  CHECK(json::parse(score_text(result))["top"] == json::array());
}

TEST_CASE("json output: a plan has every account by its name") {
  Plan plan;
  plan.accounts = {{"dense_weights", 5}, {"expert_slots", 6}};
  plan.fits = true;
  plan.slots = 9;
  const json object = json::parse(plan_json(plan));
  CHECK(
      object["accounts"] ==
      json::parse(R"({"dense_weights": 5, "expert_slots": 6})"));
  CHECK(object["fits"] == true);
  for (const char* field :
       {"model",
        "model_type",
        "model_bytes",
        "budget_bytes",
        "budget_source",
        "planned_bytes",
        "slots",
        "slot_bytes",
        "experts",
        "experts_per_token",
        "expert_layers",
        "smallest_budget_bytes",
        "full_budget_bytes",
        "context_tokens",
        "model_context",
        "prefill_chunk"}) {
    CAPTURE(field);
    CHECK(object.contains(field));
  }
}

TEST_CASE("json output: tokens and text, also text that is not UTF-8") {
  const std::vector<TokenId> ids = {1, 2};
  const json tokens = json::parse(tokens_json(ids, {"a", "\xff"}));
  CHECK(tokens["ids"] == json::parse("[1, 2]"));
  CHECK(tokens["pieces"][0] == "a");
  CHECK(tokens["pieces"][1] == "\xef\xbf\xbd");
  CHECK(json::parse(text_json("x")) == json::parse(R"({"text": "x"})"));
}
