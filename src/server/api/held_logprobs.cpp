#include "server/api/held_logprobs.h"

#include <algorithm>
#include <utility>

#include "server/api_error.h"

namespace mlx_flash::server {

HeldLogprobs::HeldLogprobs(
    std::shared_ptr<HttpExchange> exchange,
    uint64_t bytes)
    : exchange_(std::move(exchange)), bytes_(bytes) {}

void HeldLogprobs::hold() {
  if (!exchange_->hold(held_ + expected_)) {
    throw ApiError(
        ApiErrorKind::unavailable,
        "there is no room for so many log-probabilities now; ask for fewer, or "
        "for a stream of a chat or a completion");
  }
}

void HeldLogprobs::expect(uint64_t tokens, uint64_t candidates) {
  expected_ += bytes_ * tokens * (1 + candidates);
  hold();
}

void HeldLogprobs::add(std::span<const TokenText> tokens) {
  uint64_t more = 0;
  for (const TokenText& token : tokens) {
    more += bytes_ * (1 + token.top.size());
  }
  held_ += more;
  expected_ -= std::min(expected_, more);
  if (more > 0) {
    hold();
  }
}

void HeldLogprobs::clear() {
  if (std::exchange(held_, 0) > 0) {
    hold();
  }
}

} // namespace mlx_flash::server
