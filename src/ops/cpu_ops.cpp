#include "ops/cpu_ops.h"

#include <mlx/transforms.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/router.h"
#include "ops/paged_kv_cache.h"

namespace mlx_flash::ops {

namespace {

using Arrays = std::vector<mx::array>;

int64_t rows_of(const mx::array& x) {
  return x.shape(0);
}
int64_t features_of(const mx::array& x) {
  return x.shape(1);
}

} // namespace

CpuOps::CpuOps(int threads)
    : stream_(mx::default_stream(mx::Device::cpu)),
      workspace_(std::make_shared<CpuWorkspace>(threads)) {}

mx::array CpuOps::embed(const Linear& table, const std::vector<uint32_t>& ids) {
  const int hidden = static_cast<int>(table.place.matrix.in);
  return cpu_primitive(
      "Embed",
      stream_,
      {static_cast<int>(ids.size()), hidden},
      {},
      [table, ids, hidden](const Arrays&, Arrays& out) {
        float* rows = out[0].data<float>();
        for (size_t r = 0; r < ids.size(); ++r) {
          kernels::dequantize_row(table.matrix(), ids[r], rows + r * hidden);
        }
      });
}

mx::array CpuOps::linear(const Linear& w, const mx::array& x) {
  const int64_t in = w.place.matrix.in;
  const int64_t out_features = w.place.matrix.out;
  MLX_FLASH_CHECK(features_of(x) == in);
  return cpu_primitive(
      "Linear",
      stream_,
      {x.shape(0), static_cast<int>(out_features)},
      {x},
      [w, in, out_features, ws = workspace_](
          const Arrays& inputs, Arrays& out) {
        const int64_t rows = rows_of(inputs[0]);
        kernels::matmul(
            ws->pool,
            ws->scratch,
            w.matrix(),
            {inputs[0].data<float>(), in, rows, nullptr},
            {out[0].data<float>(), out_features, rows, nullptr});
      });
}

mx::array
CpuOps::rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  const int64_t n = weight.shape(0);
  MLX_FLASH_CHECK(features_of(x) % n == 0);
  return cpu_primitive(
      "RmsNorm",
      stream_,
      x.shape(),
      {x, weight},
      [n, eps, ws = workspace_](const Arrays& in, Arrays& out) {
        kernels::rms_norm(
            ws->pool,
            in[0].data<float>(),
            in[1].data<float>(),
            eps,
            static_cast<int64_t>(in[0].size()) / n,
            n,
            out[0].data<float>());
      });
}

mx::array CpuOps::rope(
    const RopeSpec& spec,
    const mx::array& x,
    const std::vector<int32_t>& positions) {
  std::vector<float> frequencies(spec.dims / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = static_cast<float>(std::pow(
        static_cast<double>(spec.base),
        -2.0 * static_cast<double>(i) / spec.dims));
  }
  return cpu_primitive(
      "Rope",
      stream_,
      x.shape(),
      {x},
      [spec, positions, frequencies, ws = workspace_](
          const Arrays& in, Arrays& out) {
        kernels::rope(
            ws->pool,
            in[0].data<float>(),
            positions.data(),
            frequencies.data(),
            rows_of(in[0]),
            features_of(in[0]) / spec.head_dim,
            spec.head_dim,
            spec.dims,
            out[0].data<float>());
      });
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
  std::vector<std::vector<kernels::KvPage>> pages;
  for (const Segment& segment : batch.segments) {
    pages.push_back(paged.pages(segment.sequence, layer));
  }
  const kernels::AttentionShape shape{
      spec.heads, spec.kv_heads, spec.head_dim, kKvPageTokens, spec.scale};
  return cpu_primitive(
      "Attention",
      stream_,
      q.shape(),
      {q, k, v},
      [shape,
       pages = std::move(pages),
       segments = batch.segments,
       ws = workspace_](const Arrays& in, Arrays& out) {
        const int64_t q_width = shape.heads * shape.head_dim;
        const int64_t kv_width = shape.kv_heads * shape.head_dim;
        std::vector<kernels::AttentionRow> rows;
        for (size_t s = 0; s < segments.size(); ++s) {
          const Segment& segment = segments[s];
          for (int i = 0; i < segment.rows; ++i) {
            const int64_t row = segment.first_row + i;
            kernels::append_kv(
                shape,
                pages[s].data(),
                segment.start + i,
                in[1].data<float>() + row * kv_width,
                in[2].data<float>() + row * kv_width);
            rows.push_back(
                {in[0].data<float>() + row * q_width,
                 out[0].data<float>() + row * q_width,
                 pages[s].data(),
                 segment.start + i + 1});
          }
        }
        kernels::attention(ws->pool, ws->scratch, shape, rows);
      });
}

mx::array CpuOps::swiglu(const mx::array& gate, const mx::array& up) {
  return cpu_primitive(
      "SwiGlu",
      stream_,
      gate.shape(),
      {gate, up},
      [ws = workspace_](const Arrays& in, Arrays& out) {
        kernels::swiglu(
            ws->pool,
            in[0].data<float>(),
            in[1].data<float>(),
            static_cast<int64_t>(in[0].size()),
            out[0].data<float>());
      });
}

mx::array CpuOps::add(const mx::array& a, const mx::array& b) {
  return cpu_primitive(
      "Add",
      stream_,
      a.shape(),
      {a, b},
      [ws = workspace_](const Arrays& in, Arrays& out) {
        kernels::add(
            ws->pool,
            in[0].data<float>(),
            in[1].data<float>(),
            static_cast<int64_t>(in[0].size()),
            out[0].data<float>());
      });
}

Routing CpuOps::route(const mx::array& logits, int k, bool normalize) {
  auto outputs = cpu_primitive(
      "Route",
      stream_,
      std::vector<mx::Shape>{{logits.shape(0), k}, {logits.shape(0), k}},
      {mx::uint32, mx::float32},
      {logits},
      [k, normalize, ws = workspace_](const Arrays& in, Arrays& out) {
        kernels::route(
            ws->pool,
            in[0].data<float>(),
            rows_of(in[0]),
            features_of(in[0]),
            k,
            normalize,
            out[0].data<uint32_t>(),
            out[1].data<float>());
      });
  return {outputs[0], outputs[1]};
}

mx::array CpuOps::experts(
    const ExpertBank& bank,
    const ExpertRecord& record,
    const mx::array& x,
    const mx::array& slots,
    const mx::array& weights) {
  return cpu_primitive(
      "Experts",
      stream_,
      x.shape(),
      {x, slots, weights},
      [bank, record, ws = workspace_](const Arrays& in, Arrays& out) {
        ExpertPass& pass = ws->experts;
        pass.begin(
            in[0].data<float>(),
            in[1].data<uint32_t>(),
            in[2].data<float>(),
            rows_of(in[0]),
            features_of(in[1]),
            features_of(in[0]),
            static_cast<uint32_t>(bank.count));
        for (const auto& group : pass.groups()) {
          pass.compute(
              ws->pool, ws->scratch, group, record, bank.slot(group.expert));
        }
        pass.combine(ws->pool, out[0].data<float>());
      });
}

mx::array CpuOps::select_rows(
    const mx::array& x,
    const std::vector<int32_t>& indices) {
  const int features = x.shape(1);
  return cpu_primitive(
      "SelectRows",
      stream_,
      {static_cast<int>(indices.size()), features},
      {x},
      [indices, features](const Arrays& in, Arrays& out) {
        for (size_t i = 0; i < indices.size(); ++i) {
          std::memcpy(
              out[0].data<float>() + i * features,
              in[0].data<float>() + static_cast<size_t>(indices[i]) * features,
              sizeof(float) * features);
        }
      });
}

void CpuOps::settle(const mx::array& x) {
  if (x.shape(0) >= kSettleRows) {
    mx::eval(x);
  }
}

std::unique_ptr<KvCache> CpuOps::make_kv_cache(
    const KvShape& shape,
    int64_t tokens) {
  return std::make_unique<PagedKvCache>(shape, tokens);
}

} // namespace mlx_flash::ops
