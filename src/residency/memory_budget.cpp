#include "residency/memory_budget.h"

#include <numeric>

#include "base/check.h"
#include "base/error.h"

namespace mlx_flash {

std::string_view account_name(Account account) {
  static constexpr std::array<std::string_view, kAccounts> kNames = {
      "program",
      "tokenizer",
      "dense_weights",
      "expert_slots",
      "kv_cache",
      "activations",
      "read_staging",
      "grammar",
      "results",
      "prompt_cache",
  };
  return kNames[static_cast<size_t>(account)];
}

MemoryBudget::Charge MemoryBudget::charge(Account account, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  const uint64_t used =
      std::accumulate(used_.begin(), used_.end(), uint64_t{0});
  const uint64_t left = limit_bytes_ - used;
  if (bytes > left) {
    fail(
        ErrorCode::out_of_budget,
        "[memory] {} needs {} bytes, but {} of the budget's {} bytes are left; "
        "give --memory more",
        account_name(account),
        bytes,
        left,
        limit_bytes_);
  }
  used_[static_cast<size_t>(account)] += bytes;
  return Charge(this, account, bytes);
}

uint64_t MemoryBudget::used_bytes() const {
  std::lock_guard lock(mutex_);
  return std::accumulate(used_.begin(), used_.end(), uint64_t{0});
}

uint64_t MemoryBudget::used_bytes(Account account) const {
  std::lock_guard lock(mutex_);
  return used_[static_cast<size_t>(account)];
}

void MemoryBudget::release(Account account, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  uint64_t& used = used_[static_cast<size_t>(account)];
  MLX_FLASH_DCHECK(used >= bytes);
  used -= bytes;
}

} // namespace mlx_flash
