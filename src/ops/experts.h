// Experts in memory: equal records, one after another, and what it takes to
// compute with them. Where they come from is models/expert_source.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/expert_mlp.h"
#include "ops/linear.h"

namespace mlx_flash::ops {

// How the matrices of one expert of some layer lie in its record.
struct ExpertRecord {
  MatrixPlace gate; // [inner, hidden]
  MatrixPlace up; // [inner, hidden]
  MatrixPlace down; // [hidden, inner]

  // The record that begins `bytes` later.
  ExpertRecord shifted(size_t bytes) const;

  // The expert whose record is at `memory`.
  kernels::Expert at(const std::byte* memory) const {
    return {gate.at(memory), up.at(memory), down.at(memory)};
  }
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

  // The arrays of one step, which stay in use until combine().
  struct Input {
    const float* x = nullptr; // [rows, hidden]
    const uint32_t* ids = nullptr; // [rows, k], each below `experts`
    const float* weights = nullptr; // [rows, k]
    int64_t rows = 0;
    int64_t k = 0;
    uint32_t experts = 0;
  };
  void begin(
      ThreadPool& pool,
      kernels::Precision precision,
      const ExpertRecord& record,
      const Input& input);

  // The distinct experts, ascending.
  std::span<const Group> groups() const {
    return groups_;
  }

  // A group, by its place in groups(), whose expert's record is at `memory`.
  struct Present {
    uint32_t group = 0;
    const std::byte* memory = nullptr;
  };
  // Computes these groups together, in any order.
  void compute(
      ThreadPool& pool,
      kernels::Scratch& scratch,
      std::span<const Present> present);

  int64_t rows() const {
    return input_.rows;
  }
  int64_t hidden() const {
    return hidden_;
  }

  // out: [rows(), hidden()]. Every group has been computed.
  void combine(ThreadPool& pool, float* out) const;

  // Memory held between passes, for `rows` rows: an upper bound.
  static size_t bytes(int64_t rows, int64_t k, int64_t hidden);

 private:
  void group_by_expert();

  Input input_;
  int64_t hidden_ = 0;
  kernels::Precision precision_ = kernels::Precision::f32;
  ExpertRecord record_;
  kernels::Scratch prepared_;
  kernels::ExpertInputs inputs_;
  std::vector<kernels::ExpertTask> tasks_;
  std::vector<Group> groups_;
  std::vector<uint32_t> counts_; // by expert
  std::vector<uint32_t> source_; // by pair: the row of x
  std::vector<uint32_t> target_; // by pair: the row of y_
  kernels::Scratch results_;
  float* y_ = nullptr; // in results_: [rows * k, hidden]
};

} // namespace mlx_flash::ops
