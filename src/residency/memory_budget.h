// The one ledger. Every byte that grows with the model is charged here, to an
// account, before it is allocated; a charge that does not fit is refused.
//
// Thread rule: charge and release from any thread (they are counters behind a
// mutex; nothing on the token path charges).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

namespace mlx_flash {

enum class Account : uint8_t {
  program, // this process before a model: heap, stacks, kernel memory
  tokenizer,
  dense_weights,
  expert_slots,
  kv_cache,
  activations, // and all scratch
  read_staging,
  grammar, // that constrains answers
  results, // what callers keep
  prompt_cache, // what it takes to keep pages on disk
};
inline constexpr int kAccounts = 10;

// "dense_weights" and so on, as the plan prints it.
std::string_view account_name(Account account);

class MemoryBudget {
 public:
  class Charge;

  explicit MemoryBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Takes `bytes` for `account` until the charge is destroyed. Throws
  // Error(out_of_budget) with account, bytes and what is left.
  [[nodiscard]] Charge charge(Account account, uint64_t bytes);

  uint64_t limit_bytes() const {
    return limit_bytes_;
  }
  uint64_t used_bytes() const;
  uint64_t used_bytes(Account account) const;

 private:
  void release(Account account, uint64_t bytes);

  const uint64_t limit_bytes_;
  mutable std::mutex mutex_;
  std::array<uint64_t, kAccounts> used_{};
};

// Gives its bytes back when destroyed. Must not outlive the budget.
class MemoryBudget::Charge {
 public:
  Charge() = default;
  Charge(Charge&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)),
        account_(other.account_),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Charge& operator=(Charge&& other) noexcept {
    Charge taken(std::move(other)); // what is held goes back here and now
    std::swap(budget_, taken.budget_);
    std::swap(account_, taken.account_);
    std::swap(bytes_, taken.bytes_);
    return *this;
  }
  ~Charge() {
    if (budget_) {
      budget_->release(account_, bytes_);
    }
  }

  uint64_t bytes() const {
    return bytes_;
  }

 private:
  friend class MemoryBudget;
  Charge(MemoryBudget* budget, Account account, uint64_t bytes)
      : budget_(budget), account_(account), bytes_(bytes) {}

  MemoryBudget* budget_ = nullptr;
  Account account_ = Account::program;
  uint64_t bytes_ = 0;
};

} // namespace mlx_flash
