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
    ThreadPool& pool,
    kernels::Precision precision,
    const ExpertRecord& record,
    const Input& input) {
  input_ = input;
  precision_ = precision;
  record_ = record;
  hidden_ = record.down.matrix.out;
  group_by_expert();
  y_ = results_.reserve(static_cast<size_t>(input.rows * input.k * hidden_));
  const kernels::Expert form{
      record.gate.matrix, record.up.matrix, record.down.matrix};
  inputs_ = kernels::prepare_expert_inputs(
      pool,
      form,
      precision,
      {input.x, hidden_, input.rows, nullptr},
      prepared_.reserve(
          kernels::expert_inputs_floats(form, precision, input.rows)));
}

// A counting sort of the pairs by expert keeps rows ascending in a group.
void ExpertPass::group_by_expert() {
  const auto pairs = static_cast<size_t>(input_.rows * input_.k);
  const uint32_t* ids = input_.ids;
  counts_.assign(input_.experts, 0);
  for (size_t p = 0; p < pairs; ++p) {
    MLX_FLASH_CHECK(ids[p] < input_.experts);
    ++counts_[ids[p]];
  }
  groups_.clear();
  uint32_t first = 0;
  for (uint32_t e = 0; e < input_.experts; ++e) {
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
    source_[at] = static_cast<uint32_t>(p / static_cast<size_t>(input_.k));
    target_[at] = static_cast<uint32_t>(p);
  }
}

void ExpertPass::compute(
    ThreadPool& pool,
    kernels::Scratch& scratch,
    std::span<const Present> present) {
  tasks_.clear();
  for (const auto& [number, memory] : present) {
    const Group& group = groups_[number];
    tasks_.push_back(
        {record_.at(memory),
         source_.data() + group.first,
         {y_, hidden_, group.rows, target_.data() + group.first}});
  }
  kernels::expert_mlps(pool, scratch, precision_, inputs_, tasks_);
}

void ExpertPass::combine(ThreadPool& pool, float* out) const {
  kernels::combine_experts(
      pool, y_, input_.weights, input_.rows, input_.k, hidden_, out);
}

size_t ExpertPass::bytes(int64_t rows, int64_t k, int64_t hidden) {
  // Prepared rows take at most a number, a scale and a sum per 32 columns, for
  // gate and up: less than two rows of f32.
  return static_cast<size_t>(rows * k) *
      (hidden * sizeof(float) + 2 * sizeof(uint32_t)) +
      static_cast<size_t>(rows) * 2 * (hidden + 64) * sizeof(float);
}

} // namespace mlx_flash::ops
