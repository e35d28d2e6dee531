#include "generate/log_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlx_flash {

std::optional<LogSoftmax> LogSoftmax::of(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float best = -kInfinity;
  for (const float logit : logits) {
    if (std::isnan(logit)) {
      return std::nullopt;
    }
    best = std::max(best, logit);
  }
  if (std::isinf(best)) {
    return std::nullopt;
  }
  double total = 0;
  for (const float logit : logits) {
    total += std::exp(static_cast<double>(logit) - best);
  }
  return LogSoftmax(logits, best + std::log(total));
}

std::vector<TokenLogprob> LogSoftmax::top(size_t count) const {
  // Ids of the best so far, the worst of them first: a heap.
  std::vector<TokenId> ids;
  const auto better = [&](TokenId a, TokenId b) {
    return logits_[a] > logits_[b] || (logits_[a] == logits_[b] && a < b);
  };
  count = std::min(count, logits_.size());
  ids.reserve(count);
  for (TokenId id = 0; id < logits_.size(); ++id) {
    if (ids.size() < count) {
      ids.push_back(id);
      std::push_heap(ids.begin(), ids.end(), better);
    } else if (count > 0 && better(id, ids.front())) {
      std::pop_heap(ids.begin(), ids.end(), better);
      ids.back() = id;
      std::push_heap(ids.begin(), ids.end(), better);
    }
  }
  std::sort_heap(ids.begin(), ids.end(), better);
  std::vector<TokenLogprob> result;
  result.reserve(ids.size());
  for (const TokenId id : ids) {
    result.push_back({id, logprob(id)});
  }
  return result;
}

} // namespace mlx_flash
