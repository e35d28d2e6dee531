// Experts in memory: equal records, one after another, and what it takes to
// compute with them. Where they come from is models/expert_source.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matmul.h"
#include "ops/linear.h"

namespace mlx_flash::ops {

// How the matrices of one expert of some layer lie in its record.
struct ExpertRecord {
  MatrixPlace gate; // [inner, hidden]
  MatrixPlace up; // [inner, hidden]
  MatrixPlace down; // [hidden, inner]

  // The record that begins `bytes` later.
  ExpertRecord shifted(size_t bytes) const;
};

// Records `pitch` bytes apart. A record's number is its slot.
struct ExpertBank {
  DeviceBuffer memory;
  size_t pitch = 0;
  size_t count = 0;

  const std::byte* slot(size_t index) const {
    return memory.data() + index * pitch;
  }
};

// The router's choice for the rows of a step.
struct Routing {
  mx::array ids; // [rows, k] u32
  mx::array weights; // [rows, k] f32
};

// One layer's experts over the rows of a step, on the CPU. Pairs (row, j) are
// grouped by expert; each group is computed when its expert is at hand, in
// any order; combine() adds up in the router's order. So the order of arrival
// never changes a bit.
//
// Thread rule: the step thread. Objects are reused: memory is kept.
class ExpertPass {
 public:
  struct Group {
    uint32_t expert = 0;
    uint32_t first = 0; // in pair order
    uint32_t rows = 0;
  };

  // x: [rows, hidden]; ids, weights: [rows, k]; ids below `experts`.
  void begin(
      const float* x,
      const uint32_t* ids,
      const float* weights,
      int64_t rows,
      int64_t k,
      int64_t hidden,
      uint32_t experts);

  // The distinct experts, ascending.
  std::span<const Group> groups() const {
    return groups_;
  }

  // Computes one group with its expert's record at `memory`.
  void compute(
      ThreadPool& pool,
      kernels::Scratch& scratch,
      const Group& group,
      const ExpertRecord& record,
      const std::byte* memory);

  // out: [rows, hidden]. Every group has been computed.
  void combine(ThreadPool& pool, float* out) const;

  // Memory held between passes, for `rows` rows.
  static size_t bytes(int64_t rows, int64_t k, int64_t hidden);

 private:
  const float* x_ = nullptr;
  const float* weights_ = nullptr;
  int64_t rows_ = 0;
  int64_t k_ = 0;
  int64_t hidden_ = 0;
  std::vector<Group> groups_;
  std::vector<uint32_t> counts_; // by expert
  std::vector<uint32_t> source_; // by pair: the row of x
  std::vector<uint32_t> target_; // by pair: the row of y_
  std::vector<float> y_; // [rows * k, hidden]
};

} // namespace mlx_flash::ops
