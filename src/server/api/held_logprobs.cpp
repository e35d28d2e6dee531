#include "server/api/held_logprobs.h"

#include <utility>

#include "server/api_error.h"

namespace mlx_flash::server {

HeldLogprobs::HeldLogprobs(
    std::shared_ptr<HttpExchange> exchange,
    uint64_t bytes)
    : exchange_(std::move(exchange)), bytes_(bytes) {}

void HeldLogprobs::add(std::span<const TokenText> tokens) {
  for (const TokenText& token : tokens) {
    held_ += bytes_ * (1 + token.top.size());
  }
  if (!tokens.empty() && !exchange_->hold(held_)) {
    throw ApiError(
        ApiErrorKind::unavailable,
        "there is no room for so many log-probabilities now; ask for fewer, or "
        "for a stream of a chat or a completion");
  }
}

void HeldLogprobs::clear() {
  if (std::exchange(held_, 0) > 0) {
    exchange_->hold(0);
  }
}

} // namespace mlx_flash::server
