// The operations as stock MLX operations: the path for GPUs. It runs on MLX's
// CPU back-end too, slowly, so that tests keep it alive without a GPU.
//
// Thread rule: as Ops.
#pragma once

#include <mlx/device.h>
#include <mlx/dtype.h>
#include <mlx/stream.h>

#include <unordered_map>

#include "ops/ops.h"

namespace mlx_flash::ops {

class MlxOps : public Ops {
 public:
  // Activations are kept in `activation_dtype`. Scales of another dtype are
  // converted, once for linear layers and at each use for experts, so the
  // checkpoint's own dtype is the fast one.
  MlxOps(mx::Device device, mx::Dtype activation_dtype);

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
  void settle(const mx::array& x) override;
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, int64_t tokens)
      override;

  // One expert for each row: x [n, hidden], slots [n] -> [n, hidden].
  mx::array expert_rows(
      const ExpertBank& bank,
      const ExpertRecord& record,
      const mx::array& x,
      const mx::array& slots);

  // Rows of expert outputs [rows * k, hidden], given as `parts` that follow
  // each other, where pair p is row place[p]; added up with weights [rows, k].
  mx::array combine(
      const std::vector<mx::array>& parts,
      const std::vector<int32_t>& place,
      const mx::array& weights);

 private:
  mx::array swiglu(const mx::array& gate, const mx::array& up);
  const MatrixArrays& arrays_of(const Linear& w);
  mx::array weighted_sum(const mx::array& y, const mx::array& weights);
  mx::array expert_linear(
      const ExpertBank& bank,
      const MatrixPlace& place,
      const mx::array& x,
      const mx::array& slots);

  mx::Stream stream_;
  mx::Dtype dtype_;
  // Arrays over linear layers' memory, by its address.
  std::unordered_map<const std::byte*, MatrixArrays> linears_;
};

} // namespace mlx_flash::ops
