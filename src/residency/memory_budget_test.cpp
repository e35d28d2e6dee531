#include "residency/memory_budget.h"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "mlx_flash/error.h"

using namespace mlx_flash;

static_assert(!std::is_copy_constructible_v<MemoryBudget::Charge>);
static_assert(!std::is_copy_assignable_v<MemoryBudget::Charge>);

TEST_CASE("memory budget: a charge that does not fit is refused by name") {
  MemoryBudget budget(100);
  const auto dense = budget.charge(Account::dense_weights, 60);
  try {
    (void)budget.charge(Account::kv_cache, 41);
    FAIL("not refused");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_budget);
    CHECK(
        std::string(error.what()) ==
        "[memory] kv_cache needs 41 bytes, but 40 of the budget's 100 bytes "
        "are left; give --memory more");
  }
  // The refusal took nothing.
  CHECK(budget.used_bytes() == 60);
  const auto rest = budget.charge(Account::kv_cache, 40);
  CHECK(budget.used_bytes() == 100);
  CHECK(rest.bytes() == 40);
}

TEST_CASE("memory budget: no sum wraps around") {
  MemoryBudget budget(UINT64_MAX);
  const auto most = budget.charge(Account::expert_slots, UINT64_MAX - 1);
  CHECK_THROWS_AS((void)budget.charge(Account::kv_cache, 2), Error);
  CHECK_THROWS_AS((void)budget.charge(Account::kv_cache, UINT64_MAX), Error);
  const auto last = budget.charge(Account::kv_cache, 1);
  CHECK(budget.used_bytes() == UINT64_MAX);
}

TEST_CASE("memory budget: a charge gives its bytes back exactly once") {
  MemoryBudget budget(100);
  {
    auto a = budget.charge(Account::activations, 30);
    MemoryBudget::Charge b = std::move(a);
    CHECK(budget.used_bytes(Account::activations) == 30);
    MemoryBudget::Charge c;
    c = std::move(b);
    CHECK(c.bytes() == 30);
    CHECK(budget.used_bytes() == 30);
    c = MemoryBudget::Charge();
    CHECK(budget.used_bytes() == 0);
    c = budget.charge(Account::read_staging, 7);
    CHECK(budget.used_bytes(Account::read_staging) == 7);
    CHECK(budget.used_bytes(Account::activations) == 0);
  }
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("memory budget: a charge that is replaced gives its bytes back") {
  MemoryBudget budget(100);
  auto charge = budget.charge(Account::kv_cache, 60);
  auto other = budget.charge(Account::program, 10);
  charge = std::move(other);
  CHECK(budget.used_bytes() == 10);
}

TEST_CASE("memory budget: every account has its own name and its own sum") {
  MemoryBudget budget(1000);
  std::vector<MemoryBudget::Charge> charges;
  std::vector<std::string_view> names;
  for (int i = 0; i < kAccounts; ++i) {
    const auto account = static_cast<Account>(i);
    charges.push_back(budget.charge(account, 10 + i));
    for (const auto& name : names) {
      CHECK(account_name(account) != name);
    }
    names.push_back(account_name(account));
  }
  for (int i = 0; i < kAccounts; ++i) {
    CHECK(budget.used_bytes(static_cast<Account>(i)) == 10u + i);
  }
  CHECK(account_name(Account::dense_weights) == "dense_weights");
  CHECK(account_name(Account::read_staging) == "read_staging");
}

TEST_CASE("memory budget: threads that charge at once never pass the limit") {
  MemoryBudget budget(10);
  std::vector<std::thread> threads;
  std::vector<int> granted(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&budget, &granted, t] {
      for (int i = 0; i < 2000; ++i) {
        std::optional<MemoryBudget::Charge> charge;
        try {
          charge = budget.charge(static_cast<Account>(t), 4);
          ++granted[t];
        } catch (const Error&) {
        }
        if (budget.used_bytes() > 10) {
          granted[t] = -100000;
        }
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  for (const int count : granted) {
    CHECK(count > 0);
  }
  CHECK(budget.used_bytes() == 0);
}
