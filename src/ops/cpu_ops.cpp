#include "ops/cpu_ops.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/elementwise.h"
#include "kernels/expert_mlp.h"
#include "kernels/matmul.h"
#include "kernels/router.h"
#include "ops/host_array.h"
#include "ops/paged_kv_cache.h"

namespace mlx_flash::ops {

namespace {

int64_t features_of(const mx::array& x) {
  return x.shape(1);
}

kernels::ConstRows rows_of(const mx::array& x) {
  return {floats_of(x), features_of(x), x.shape(0), nullptr};
}

kernels::MutableRows rows_in(mx::array& x) {
  return {x.data<float>(), features_of(x), x.shape(0), nullptr};
}

} // namespace

CpuOps::CpuOps(int threads, kernels::Precision precision)
    : precision_(precision),
      pool_(threads),
      blocks_(std::make_shared<BlockCache>()) {}

mx::array CpuOps::new_result(mx::Shape shape, mx::Dtype dtype) {
  return new_array(std::move(shape), dtype, blocks_);
}

mx::array CpuOps::embed(const Linear& table, const std::vector<uint32_t>& ids) {
  const kernels::Matrix matrix = table.matrix();
  mx::array out =
      new_result({static_cast<int>(ids.size()), static_cast<int>(matrix.in)});
  for (size_t r = 0; r < ids.size(); ++r) {
    kernels::dequantize_row(matrix, ids[r], out.data<float>() + r * matrix.in);
  }
  return out;
}

mx::array CpuOps::linear(const Linear& w, const mx::array& x) {
  return linears({&w}, x)[0];
}

std::vector<mx::array> CpuOps::linears(
    const std::vector<const Linear*>& ws,
    const mx::array& x) {
  std::vector<mx::array> results;
  std::vector<kernels::Product> products;
  results.reserve(ws.size());
  products.reserve(ws.size());
  for (const Linear* w : ws) {
    const kernels::Matrix matrix = w->matrix();
    MLX_FLASH_CHECK(features_of(x) == matrix.in);
    results.push_back(new_result({x.shape(0), static_cast<int>(matrix.out)}));
    products.push_back({matrix, rows_in(results.back())});
  }
  kernels::matmuls(pool_, scratch_, precision_, products, rows_of(x));
  return results;
}

mx::array CpuOps::mlp(const SwigluMlp& w, const mx::array& x) {
  mx::array out = new_result(x.shape());
  kernels::swiglu_mlp(
      pool_,
      scratch_,
      precision_,
      {w.gate.matrix(), w.up.matrix(), w.down.matrix()},
      rows_of(x),
      rows_in(out));
  return out;
}

mx::array
CpuOps::rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  const int64_t n = weight.shape(0);
  MLX_FLASH_CHECK(features_of(x) % n == 0);
  mx::array out = new_result(x.shape());
  kernels::rms_norm(
      pool_,
      floats_of(x),
      floats_of(weight),
      eps,
      static_cast<int64_t>(x.size()) / n,
      n,
      out.data<float>());
  return out;
}

const CpuOps::Angles& CpuOps::angles(
    const RopeSpec& spec,
    const std::vector<int32_t>& positions) {
  if (spec == angles_.spec && positions == angles_.positions) {
    return angles_;
  }
  const int pairs = spec.dims / 2;
  std::vector<float> frequencies;
  for (int i = 0; i < pairs; ++i) {
    frequencies.push_back(static_cast<float>(
        std::pow(static_cast<double>(spec.base), -2.0 * i / spec.dims)));
  }
  angles_.spec = spec;
  angles_.positions = positions;
  angles_.cosines.resize(positions.size() * pairs);
  angles_.sines.resize(positions.size() * pairs);
  kernels::rope_angles(
      pool_,
      positions.data(),
      frequencies.data(),
      static_cast<int64_t>(positions.size()),
      pairs,
      angles_.cosines.data(),
      angles_.sines.data());
  return angles_;
}

mx::array CpuOps::rope(
    const RopeSpec& spec,
    const mx::array& x,
    const std::vector<int32_t>& positions) {
  const Angles& table = angles(spec, positions);
  mx::array out = new_result(x.shape());
  kernels::rope(
      pool_,
      floats_of(x),
      table.cosines.data(),
      table.sines.data(),
      x.shape(0),
      features_of(x) / spec.head_dim,
      spec.head_dim,
      spec.dims,
      out.data<float>());
  return out;
}

mx::array CpuOps::attention(
    const AttentionSpec& spec,
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    KvCache& cache,
    int layer,
    const Batch& batch) {
  const auto& paged = static_cast<const PagedKvCache&>(cache);
  const kernels::AttentionShape shape{spec.heads, spec.scale, paged.layout()};
  const int64_t q_width = shape.heads * shape.kv.head_dim;
  const int64_t kv_width = shape.kv.kv_heads * shape.kv.head_dim;
  mx::array out = new_result(q.shape());
  pages_.clear();
  for (const Segment& segment : batch.segments) {
    paged.append_pages(segment.sequence, layer, pages_);
  }
  attention_rows_.clear();
  std::byte* const* pages = pages_.data();
  for (const Segment& segment : batch.segments) {
    for (int i = 0; i < segment.rows; ++i) {
      const int64_t row = segment.first_row + i;
      kernels::append_kv(
          shape.kv,
          pages,
          segment.start + i,
          floats_of(k) + row * kv_width,
          floats_of(v) + row * kv_width);
      attention_rows_.push_back(
          {floats_of(q) + row * q_width,
           out.data<float>() + row * q_width,
           pages,
           segment.start + i + 1});
    }
    pages += paged.page_count(segment.sequence);
  }
  kernels::attention(pool_, scratch_, shape, attention_rows_);
  return out;
}

mx::array CpuOps::add(const mx::array& a, const mx::array& b) {
  mx::array out = new_result(a.shape());
  kernels::add(
      pool_,
      floats_of(a),
      floats_of(b),
      static_cast<int64_t>(a.size()),
      out.data<float>());
  return out;
}

Routing CpuOps::route(const mx::array& logits, int k, bool normalize) {
  Routing routing{
      new_result({logits.shape(0), k}, mx::uint32),
      new_result({logits.shape(0), k})};
  kernels::route(
      pool_,
      floats_of(logits),
      logits.shape(0),
      features_of(logits),
      k,
      normalize,
      routing.ids.data<uint32_t>(),
      routing.weights.data<float>());
  return routing;
}

ExpertPass& CpuOps::begin_experts(
    const ExpertRecord& record,
    uint32_t experts,
    const mx::array& x,
    const Routing& routing) {
  pass_.begin(
      pool_,
      precision_,
      record,
      {floats_of(x),
       routing.ids.data<uint32_t>(),
       floats_of(routing.weights),
       x.shape(0),
       features_of(routing.ids),
       experts});
  return pass_;
}

void CpuOps::compute_experts(std::span<const ExpertPass::Present> present) {
  pass_.compute(pool_, scratch_, present);
}

mx::array CpuOps::combine_experts() {
  mx::array out = new_result(
      {static_cast<int>(pass_.rows()), static_cast<int>(pass_.hidden())});
  pass_.combine(pool_, out.data<float>());
  return out;
}

mx::array CpuOps::experts(
    const ExpertBank& bank,
    const ExpertRecord& record,
    const mx::array& x,
    const mx::array& slots,
    const mx::array& weights) {
  const ExpertPass& pass = begin_experts(
      record, static_cast<uint32_t>(bank.count), x, {slots, weights});
  present_.clear();
  for (uint32_t g = 0; g < pass.groups().size(); ++g) {
    present_.push_back({g, bank.slot(pass.groups()[g].expert)});
  }
  compute_experts(present_);
  return combine_experts();
}

mx::array CpuOps::select_rows(
    const mx::array& x,
    const std::vector<int32_t>& indices) {
  const size_t features = static_cast<size_t>(features_of(x));
  mx::array out = new_result({static_cast<int>(indices.size()), x.shape(1)});
  for (size_t i = 0; i < indices.size(); ++i) {
    std::memcpy(
        out.data<float>() + i * features,
        floats_of(x) + static_cast<size_t>(indices[i]) * features,
        sizeof(float) * features);
  }
  return out;
}

std::unique_ptr<KvCache> CpuOps::make_kv_cache(
    const KvShape& shape,
    int64_t tokens) {
  return std::make_unique<PagedKvCache>(
      shape, tokens, kernels::kv_type(precision_));
}

} // namespace mlx_flash::ops
