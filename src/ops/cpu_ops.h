// The operations over our own kernels on the CPU, each computed when it is
// called: activations are f32, and products take them at the chosen precision.
// Results of a row do not depend on the other rows, on threads or on chunks.
//
// Not in MLX's lazy graph: its dispatch to another thread costs more than many
// of these operations, and nothing here is gained by putting them off.
//
// Thread rule: as Ops. The calling thread is the pool's first worker.
#pragma once

#include "kernels/attention.h"
#include "kernels/precision.h"
#include "kernels/scratch.h"
#include "kernels/thread_pool.h"
#include "ops/host_array.h"
#include "ops/ops.h"

namespace mlx_flash::ops {

class CpuOps : public Ops {
 public:
  CpuOps(int threads, kernels::Precision precision);

  mx::array embed(const Linear& table, const std::vector<uint32_t>& ids)
      override;
  mx::array linear(const Linear& w, const mx::array& x) override;
  std::vector<mx::array> linears(
      const std::vector<const Linear*>& ws,
      const mx::array& x) override;
  mx::array mlp(const SwigluMlp& w, const mx::array& x) override;
  mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps)
      override;
  mx::array rope(
      const RopeSpec& spec,
      const mx::array& x,
      const std::vector<int32_t>& positions) override;
  mx::array attention(
      const AttentionSpec& spec,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      KvCache& cache,
      int layer,
      const Batch& batch) override;
  mx::array add(const mx::array& a, const mx::array& b) override;
  Routing route(const mx::array& logits, int k, bool normalize) override;
  mx::array experts(
      const ExpertBank& bank,
      const ExpertRecord& record,
      const mx::array& x,
      const mx::array& slots,
      const mx::array& weights) override;
  mx::array select_rows(const mx::array& x, const std::vector<int32_t>& indices)
      override;
  void settle(const mx::array&) override {}
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, int64_t tokens)
      override;

  // A layer whose experts arrive one by one (engine/streamed_experts.h): call
  // begin_experts(), compute the pass's groups in any order with
  // compute_experts(), then take the result.
  ExpertPass& begin_experts(
      const ExpertRecord& record,
      uint32_t experts,
      const mx::array& x,
      const Routing& routing);
  void compute_experts(std::span<const ExpertPass::Present> present);
  mx::array combine_experts();

 private:
  // The angles of a step's rows, which its layers share.
  struct Angles {
    RopeSpec spec;
    std::vector<int32_t> positions;
    std::vector<float> cosines; // [rows, dims / 2]
    std::vector<float> sines;
  };
  const Angles& angles(
      const RopeSpec& spec,
      const std::vector<int32_t>& positions);

  // Uninitialised.
  mx::array new_result(mx::Shape shape, mx::Dtype dtype = mx::float32);

  const kernels::Precision precision_;
  ThreadPool pool_;
  const std::shared_ptr<BlockCache> blocks_; // arrays may outlive this object
  kernels::Scratch scratch_;
  ExpertPass pass_;
  std::vector<ExpertPass::Present> present_;
  Angles angles_; // of the last call
  std::vector<std::byte*> pages_; // of each segment, one after the other
  std::vector<kernels::AttentionRow> attention_rows_;
};

} // namespace mlx_flash::ops
