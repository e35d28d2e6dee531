// The operations that models are written in. Two back-ends implement them:
// cpu_ops.h with our kernels, computed when they are called, and mlx_ops.h with
// MLX's stock operations, for GPUs. Model code cannot tell them apart.
//
// Arrays may be lazy. Activations are [rows, features], row-contiguous; rows
// are those of the step's Batch.
//
// Thread rule: the engine thread.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <vector>

#include "ops/batch.h"
#include "ops/experts.h"
#include "ops/kv_cache.h"
#include "ops/linear.h"

namespace mlx_flash::ops {

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0; // divides heads
  int head_dim = 0;
  float scale = 0; // of the scores
};

// Rotary embedding in halves over the first `dims` of each head.
struct RopeSpec {
  int head_dim = 0;
  int dims = 0;
  float base = 10000;

  bool operator==(const RopeSpec&) const = default;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // Row ids of `table` [vocab, hidden] as activations: [rows, hidden].
  virtual mx::array embed(
      const Linear& table,
      const std::vector<uint32_t>& ids) = 0;

  // x W^T: [rows, in] -> [rows, out].
  virtual mx::array linear(const Linear& w, const mx::array& x) = 0;

  // The same for several layers of the same input.
  virtual std::vector<mx::array> linears(
      const std::vector<const Linear*>& ws,
      const mx::array& x) = 0;

  // down(silu(gate(x)) * up(x)): [rows, hidden] -> [rows, hidden].
  virtual mx::array mlp(const SwigluMlp& w, const mx::array& x) = 0;

  // Normalises each run of weight.size() features by itself: the whole row,
  // or each head of it. weight: [n] f32, n divides the features.
  virtual mx::array
  rms_norm(const mx::array& x, const mx::array& weight, float eps) = 0;

  // x: [rows, heads * head_dim]. positions: as Batch::positions.
  virtual mx::array rope(
      const RopeSpec& spec,
      const mx::array& x,
      const std::vector<int32_t>& positions) = 0;

  // Writes k and v [rows, kv_heads * head_dim] to the cache at the rows'
  // positions, then attends each row of q [rows, heads * head_dim] to its
  // sequence up to itself. `cache` is one of make_kv_cache().
  virtual mx::array attention(
      const AttentionSpec& spec,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      KvCache& cache,
      int layer,
      const Batch& batch) = 0;

  virtual mx::array add(const mx::array& a, const mx::array& b) = 0;

  // logits [rows, experts] -> the k most probable, best first; `normalize`
  // makes their weights sum to one.
  virtual Routing route(const mx::array& logits, int k, bool normalize) = 0;

  // Each row of x through the experts in `slots` [rows, k] (u32) of the bank,
  // added up with `weights` [rows, k]: [rows, hidden].
  virtual mx::array experts(
      const ExpertBank& bank,
      const ExpertRecord& record,
      const mx::array& x,
      const mx::array& slots,
      const mx::array& weights) = 0;

  // The given rows of x: [indices, features].
  virtual mx::array select_rows(
      const mx::array& x,
      const std::vector<int32_t>& indices) = 0;

  // Computes x now if so much work is pending that its intermediate results
  // would take more memory than the plan allows. Models call it once a layer.
  virtual void settle(const mx::array& x) = 0;

  // Room for `tokens` tokens, all sequences together, by whole pages.
  virtual std::unique_ptr<KvCache> make_kv_cache(
      const KvShape& shape,
      int64_t tokens) = 0;
};

} // namespace mlx_flash::ops
