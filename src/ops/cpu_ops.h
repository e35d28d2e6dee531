// The operations as primitives over our own kernels, f32 on the CPU. Results
// of a row do not depend on the other rows, on threads or on chunks.
//
// Thread rule: as Ops. The pool and the scratch belong to the stream's worker
// while a graph runs, and to nobody else.
#pragma once

#include <mlx/stream.h>

#include <memory>

#include "kernels/thread_pool.h"
#include "ops/cpu_primitive.h"
#include "ops/ops.h"

namespace mlx_flash::ops {

// What primitives share while they run; primitives keep it alive.
struct CpuWorkspace {
  explicit CpuWorkspace(int threads) : pool(threads) {}

  ThreadPool pool;
  kernels::Scratch scratch;
  ExpertPass experts;
};

class CpuOps : public Ops {
 public:
  explicit CpuOps(int threads);

  mx::array embed(const Linear& table, const std::vector<uint32_t>& ids)
      override;
  mx::array linear(const Linear& w, const mx::array& x) override;
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
  mx::array swiglu(const mx::array& gate, const mx::array& up) override;
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
  void settle(const mx::array& x) override;
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, int64_t tokens)
      override;

  // For primitives of others (engine/streamed_experts.h) on the same stream.
  mx::Stream stream() const {
    return stream_;
  }
  const std::shared_ptr<CpuWorkspace>& workspace() const {
    return workspace_;
  }

  // Steps of at least this many rows are computed layer by layer; smaller
  // ones as one graph.
  static constexpr int kSettleRows = 8;

 private:
  mx::Stream stream_;
  std::shared_ptr<CpuWorkspace> workspace_;
};

} // namespace mlx_flash::ops
