#include "engine/planner.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace mlx_flash;

namespace {

PlanFacts facts() {
  PlanFacts f;
  f.model = "model";
  f.shape.layers = 4;
  f.shape.hidden = 256;
  f.shape.heads = 4;
  f.shape.kv_heads = 2;
  f.shape.head_dim = 64;
  f.shape.vocab = 4096;
  f.shape.experts = 64;
  f.shape.experts_per_token = 4;
  f.shape.expert_inner = 128;
  f.shape.expert_layers = {0, 1, 2, 3};
  f.dense_bytes = 10'000'000;
  f.tokenizer_bytes = 2'000'000;
  f.staging_bytes = 1'000'000;
  f.slot_bytes = 100'000;
  f.experts = 4 * 64;
  f.context_tokens = 256;
  f.budget_bytes = 40'000'000;
  return f;
}

uint64_t sum(const Plan& plan) {
  uint64_t total = 0;
  for (const auto& account : plan.accounts) {
    total += account.bytes;
  }
  return total;
}

} // namespace

TEST_CASE("plan: the accounts add up and fill the budget with slots") {
  const Plan plan = divide_budget(facts());
  CHECK(plan.accounts.size() == kAccounts);
  CHECK(sum(plan) == plan.planned_bytes);
  CHECK(plan.fits);
  CHECK(plan.planned_bytes <= plan.budget_bytes);
  // One slot more would not fit.
  CHECK(plan.planned_bytes + plan.slot_bytes + 128 > plan.budget_bytes);
  CHECK(plan.slots > 4);
  CHECK(plan.slots < plan.experts);
}

TEST_CASE("plan: the smallest budget works, and a byte less does not") {
  PlanFacts f = facts();
  f.budget_bytes = 1;
  const Plan small = divide_budget(f);
  CHECK_FALSE(small.fits);
  f.budget_bytes = small.smallest_budget_bytes;
  const Plan least = divide_budget(f);
  CHECK(least.fits);
  CHECK(least.slots == 4);
  CHECK(least.smallest_budget_bytes == small.smallest_budget_bytes);
  f.budget_bytes -= 1;
  CHECK_FALSE(divide_budget(f).fits);
}

TEST_CASE("plan: with the full budget every expert has a slot") {
  PlanFacts f = facts();
  f.budget_bytes = 1'000'000'000;
  const Plan plan = divide_budget(f);
  CHECK(plan.slots == plan.experts);
  CHECK(plan.planned_bytes == plan.full_budget_bytes);
  CHECK(plan.prefill_chunk == 512);
}

TEST_CASE("plan: the chunk takes an eighth of the budget at most") {
  for (const uint64_t budget : {25'000'000, 60'000'000, 200'000'000}) {
    PlanFacts f = facts();
    f.budget_bytes = budget;
    const Plan plan = divide_budget(f);
    const uint64_t bytes = plan_bytes(plan, Account::activations);
    CHECK((plan.prefill_chunk == 8 || bytes <= budget / 8));
  }
}

TEST_CASE("plan: fixed slots are taken as they are, within reason") {
  PlanFacts f = facts();
  f.slots = 7;
  CHECK(divide_budget(f).slots == 7);
  f.slots = 100'000;
  CHECK(divide_budget(f).slots == f.experts);
  f.slots = 3;
  CHECK_THROWS_AS(divide_budget(f), Error);
}

TEST_CASE("plan: a resident run needs all experts and says so") {
  PlanFacts f = facts();
  f.resident = true;
  f.budget_bytes = 40'000'000;
  CHECK_FALSE(divide_budget(f).fits);
  f.budget_bytes = divide_budget(f).smallest_budget_bytes;
  CHECK(divide_budget(f).fits);
  CHECK(divide_budget(f).slots == f.experts);
}

TEST_CASE("plan: a longer context takes more, by whole pages") {
  PlanFacts f = facts();
  const auto bytes = [&](uint64_t tokens) {
    f.context_tokens = tokens;
    return plan_bytes(divide_budget(f), Account::kv_cache);
  };
  CHECK(bytes(1) == bytes(64));
  CHECK(bytes(65) == 2 * bytes(64));
  // 4 layers, keys and values, 2 heads of 64.
  CHECK(bytes(64) == 64 * 4 * 2 * 2 * 64 * 4);
  f.kv_type = kernels::KvType::i16;
  // With a scale for each.
  CHECK(bytes(64) == 64 * 4 * 2 * 2 * (64 * 2 + 4));
}

TEST_CASE("memory sizes: decimal and binary units, percents, any case") {
  CHECK(parse_memory_size("24MB", 0) == 24'000'000);
  CHECK(parse_memory_size("4gb", 0) == 4'000'000'000);
  CHECK(parse_memory_size("1.5 GiB", 0) == 3ull << 29);
  CHECK(parse_memory_size("123456", 0) == 123456);
  CHECK(parse_memory_size("50%", 1000) == 500);
  for (const char* bad :
       {"",
        "MB",
        "-1GB",
        "0",
        "nan",
        "inf",
        "12XB",
        "101%",
        "1e30GB",
        "4 G B x"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_memory_size(bad, 1000), Error);
  }
}

TEST_CASE("memory sizes: print with a unit") {
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(11'949'377) == "11.9 MB");
  CHECK(format_bytes(3'200'000'000) == "3.20 GB");
}
