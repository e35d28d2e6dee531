// The rows of a step behind which somebody wants the logits, or the states:
// computed so many at a time, so that they take little memory.
//
// Thread rule: the engine thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/model.h"

namespace mlx_flash {

class WantedRows {
 public:
  enum class What { logits, states };

  // `hidden` is forward()'s result and must outlive this.
  WantedRows(Model& model, const ops::mx::array& hidden, What what, int at_once)
      : model_(model),
        hidden_(hidden),
        what_(what),
        at_once_(static_cast<size_t>(at_once)) {}

  // In the order in which their values are asked for.
  void add(size_t part, int row, int first_row) {
    rows_.push_back({part, row, first_row + row});
  }

  struct Row {
    size_t part = 0; // of the step
    int row = 0; // of the part
    int32_t in_batch = 0;
  };
  const std::vector<Row>& rows() const {
    return rows_;
  }
  What what() const {
    return what_;
  }

  // Behind rows()[i], until the next call. From the first to the last.
  std::span<float> values(size_t i);

 private:
  void compute(size_t first);

  Model& model_;
  const ops::mx::array& hidden_;
  const What what_;
  const size_t at_once_;
  std::vector<Row> rows_;
  std::optional<ops::mx::array> values_;
  size_t first_ = 0; // of the rows whose values these are
};

} // namespace mlx_flash
