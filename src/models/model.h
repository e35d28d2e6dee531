// A language model: mathematics over Ops, nothing else. One file per Hugging
// Face model_type implements it; registry.h finds it.
//
// Thread rule: the engine thread.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/expert_source.h"
#include "models/weight_source.h"
#include "ops/ops.h"

namespace mlx_flash {

// What planning needs to know of a model, from its config alone.
struct ModelShape {
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab = 0;
  int dense_inner = 0; // of the dense MLPs; 0 without
  int experts = 0; // per expert layer; 0 for a dense model
  int experts_per_token = 0;
  int expert_inner = 0;
  int64_t max_positions = 0;
  std::vector<int> expert_layers; // layer numbers
  // The module of which a step reads one row for each token; empty where it is
  // the head too, and so is read whole.
  std::string embedding;

  ops::KvShape kv() const {
    return {layers, kv_heads, head_dim};
  }
};

// Bytes of arrays alive at once in a step of `rows` rows of which at most
// `logit_rows` ask for logits, all of f32, kernels' scratch for `threads`
// included. An upper bound.
uint64_t activation_bytes(
    const ModelShape& shape,
    int64_t rows,
    int64_t logit_rows,
    int threads);

// Asked before each layer whether the step is still wanted; if not, forward()
// throws StepStopped.
using IsUnwanted = std::function<bool()>;
struct StepStopped : std::exception {
  const char* what() const noexcept override {
    return "the step was stopped";
  }
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelShape& shape() const = 0;

  // Hidden states behind every row of the batch: [rows, hidden]. On a GPU
  // lazy, and for large batches computed up to the last layers.
  virtual ops::mx::array forward(
      const ops::Batch& batch,
      ops::KvCache& cache,
      ExpertSource& experts,
      const IsUnwanted& is_unwanted = {}) = 0;

  // The final norm of the given rows of forward()'s result: [rows, hidden].
  virtual ops::mx::array states(
      const ops::mx::array& hidden,
      const std::vector<int32_t>& rows) = 0;

  // Logits of the given rows of forward()'s result: [rows, vocab].
  virtual ops::mx::array logits(
      const ops::mx::array& hidden,
      const std::vector<int32_t>& rows) = 0;
};

} // namespace mlx_flash
