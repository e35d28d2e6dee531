#include "ops/experts.h"

#include "base/check.h"
#include "kernels/elementwise.h"

namespace mlx_flash::ops {

ExpertRecord ExpertRecord::shifted(size_t bytes) const {
  ExpertRecord result = *this;
  for (MatrixPlace* place : {&result.gate, &result.up, &result.down}) {
    place->weight_offset += bytes;
    place->scales_offset += bytes;
    place->biases_offset += bytes;
  }
  return result;
}

void ExpertPass::begin(
    const float* x,
    const uint32_t* ids,
    const float* weights,
    int64_t rows,
    int64_t k,
    int64_t hidden,
    uint32_t experts) {
  x_ = x;
  weights_ = weights;
  rows_ = rows;
  k_ = k;
  hidden_ = hidden;
  const size_t pairs = static_cast<size_t>(rows * k);

  // A counting sort of the pairs by expert keeps rows ascending in a group.
  counts_.assign(experts, 0);
  for (size_t p = 0; p < pairs; ++p) {
    MLX_FLASH_CHECK(ids[p] < experts);
    ++counts_[ids[p]];
  }
  groups_.clear();
  uint32_t first = 0;
  for (uint32_t e = 0; e < experts; ++e) {
    if (counts_[e] > 0) {
      groups_.push_back({e, first, counts_[e]});
    }
    const uint32_t count = counts_[e];
    counts_[e] = first; // from here on: where the next pair of e goes
    first += count;
  }
  source_.resize(pairs);
  target_.resize(pairs);
  for (size_t p = 0; p < pairs; ++p) {
    const uint32_t at = counts_[ids[p]]++;
    source_[at] = static_cast<uint32_t>(p / k);
    target_[at] = static_cast<uint32_t>(p);
  }
  y_.resize(pairs * hidden);
}

void ExpertPass::compute(
    ThreadPool& pool,
    kernels::Scratch& scratch,
    const Group& group,
    const ExpertRecord& record,
    const std::byte* memory) {
  kernels::expert_mlp(
      pool,
      scratch,
      record.gate.at(memory),
      record.up.at(memory),
      record.down.at(memory),
      {x_, hidden_, group.rows, source_.data() + group.first},
      {y_.data(), hidden_, group.rows, target_.data() + group.first});
}

void ExpertPass::combine(ThreadPool& pool, float* out) const {
  kernels::combine_experts(pool, y_.data(), weights_, rows_, k_, hidden_, out);
}

size_t ExpertPass::bytes(int64_t rows, int64_t k, int64_t hidden) {
  return static_cast<size_t>(rows * k) *
      (hidden * sizeof(float) + 2 * sizeof(uint32_t));
}

} // namespace mlx_flash::ops
