#include "engine/bench_work.h"

#include <string_view>

namespace mlx_flash {

namespace {

constexpr std::string_view kWeight = ".weight";

// What CheckpointWeights::require_all_taken() lets pass: a head that is a copy
// of the embedding, and RoPE's frequencies.
bool is_unused(const ModelShape& shape, const TensorInfo& tensor) {
  return (shape.embedding.empty() && tensor.name.starts_with("lm_head.")) ||
      tensor.name.ends_with(".rotary_emb.inv_freq");
}

// As it lies in memory: vectors are kept in f32 (checkpoint_weights.h).
uint64_t memory_bytes(const TensorInfo& tensor) {
  return tensor.shape.size() == 1 ? 4 * static_cast<uint64_t>(tensor.shape[0])
                                  : tensor.bytes;
}

// Numbers of a matrix, packed ones too; 0 for everything else.
uint64_t matrix_parameters(
    const Checkpoint& checkpoint,
    const TensorInfo& tensor) {
  if (tensor.shape.size() != 2 || !tensor.name.ends_with(kWeight)) {
    return 0;
  }
  const std::string module =
      tensor.name.substr(0, tensor.name.size() - kWeight.size());
  const auto quantization = checkpoint.quantization(module);
  return quantization
      ? tensor.bytes * 8 / static_cast<uint64_t>(quantization->bits)
      : tensor.bytes / dtype_bytes(tensor.dtype);
}

void add_dense(
    BenchWork& work,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    const ModelShape& shape) {
  const auto vocab = static_cast<uint64_t>(shape.vocab);
  const std::string embedding = shape.embedding + ".";
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (layout.is_expert_tensor(tensor.name) || is_unused(shape, tensor)) {
      continue;
    }
    if (!shape.embedding.empty() && tensor.name.starts_with(embedding)) {
      work.dense_bytes += tensor.bytes / vocab; // a row
      continue;
    }
    work.dense_bytes += memory_bytes(tensor);
    work.row_parameters += matrix_parameters(checkpoint, tensor);
  }
  // One matrix of all those above is the head.
  work.head_parameters = vocab * static_cast<uint64_t>(shape.hidden);
  work.row_parameters -= work.head_parameters;
}

void add_experts(
    BenchWork& work,
    const ExpertLayout& layout,
    const ModelShape& shape) {
  const auto chosen = static_cast<uint64_t>(shape.experts_per_token);
  for (const LayerExperts& layer : layout.layers()) {
    work.expert_bytes += chosen * layer.record_bytes;
    for (const ProjectionLayout& projection : layer.projections) {
      work.row_parameters +=
          chosen * static_cast<uint64_t>(projection.out * projection.in);
    }
  }
}

} // namespace

BenchWork work_of(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    const ModelShape& shape,
    uint64_t kv_bytes) {
  const auto per_head = static_cast<uint64_t>(shape.layers) *
      static_cast<uint64_t>(shape.head_dim);
  BenchWork work;
  add_dense(work, checkpoint, layout, shape);
  add_experts(work, layout, shape);
  work.kv_bytes = kv_bytes;
  // A product for the score and one with the value.
  work.attention_flops = 4 * per_head * static_cast<uint64_t>(shape.heads);
  return work;
}

} // namespace mlx_flash
