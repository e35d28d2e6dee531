#include "ops/mlx_ops.h"

#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "base/check.h"
#include "ops/array_kv_cache.h"

namespace mlx_flash::ops {

namespace {

// MLX's CPU back-end has no gather_mm but in f32.
bool gathers(mx::Dtype dtype, const mx::Stream& stream) {
  return stream.device == mx::Device::gpu || dtype == mx::float32;
}

// MLX wants scales and biases in the activations' dtype, but for those that
// are no floats.
void convert_scales(
    MatrixArrays& arrays,
    mx::Dtype dtype,
    const mx::Stream& stream) {
  if (arrays.biases) {
    arrays.scales = mx::astype(*arrays.scales, dtype, stream);
    arrays.biases = mx::astype(*arrays.biases, dtype, stream);
  }
}

} // namespace

MlxOps::MlxOps(mx::Device device, mx::Dtype activation_dtype)
    : stream_(mx::default_stream(device)), dtype_(activation_dtype) {}

const MatrixArrays& MlxOps::arrays_of(const Linear& w) {
  auto found = linears_.find(w.memory.data());
  if (found == linears_.end()) {
    MatrixArrays arrays = matrix_arrays(w.memory, w.place);
    if (arrays.scales) {
      convert_scales(arrays, dtype_, stream_);
    } else {
      arrays.weight = mx::astype(arrays.weight, dtype_, stream_);
    }
    found = linears_.emplace(w.memory.data(), std::move(arrays)).first;
  }
  return found->second;
}

mx::array MlxOps::embed(const Linear& table, const std::vector<uint32_t>& ids) {
  const mx::array index(
      ids.begin(), {static_cast<int>(ids.size())}, mx::uint32);
  const MatrixArrays& w = arrays_of(table);
  auto weight = mx::take(w.weight, index, 0, stream_);
  if (!w.scales) {
    return weight;
  }
  std::optional<mx::array> biases;
  if (w.biases) {
    biases = mx::take(*w.biases, index, 0, stream_);
  }
  const auto& m = table.place.matrix;
  return mx::dequantize(
      weight,
      mx::take(*w.scales, index, 0, stream_),
      biases,
      m.group_size,
      m.bits,
      mlx_mode(m.type),
      std::nullopt,
      dtype_,
      stream_);
}

mx::array MlxOps::linear(const Linear& w, const mx::array& x) {
  const MatrixArrays& arrays = arrays_of(w);
  if (!arrays.scales) {
    return mx::matmul(x, mx::transpose(arrays.weight, stream_), stream_);
  }
  const auto& m = w.place.matrix;
  return mx::quantized_matmul(
      x,
      arrays.weight,
      *arrays.scales,
      arrays.biases,
      true,
      m.group_size,
      m.bits,
      mlx_mode(m.type),
      stream_);
}

std::vector<mx::array> MlxOps::linears(
    const std::vector<const Linear*>& ws,
    const mx::array& x) {
  std::vector<mx::array> results;
  for (const Linear* w : ws) {
    results.push_back(linear(*w, x));
  }
  return results;
}

mx::array MlxOps::mlp(const SwigluMlp& w, const mx::array& x) {
  return linear(w.down, swiglu(linear(w.gate, x), linear(w.up, x)));
}

mx::array
MlxOps::rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  const int n = weight.shape(0);
  const auto runs =
      mx::reshape(x, {static_cast<int>(x.size()) / n, n}, stream_);
  const auto w = mx::astype(weight, dtype_, stream_);
  return mx::reshape(
      mx::fast::rms_norm(runs, w, eps, stream_), x.shape(), stream_);
}

mx::array MlxOps::rope(
    const RopeSpec& spec,
    const mx::array& x,
    const std::vector<int32_t>& positions) {
  const int rows = x.shape(0);
  const int heads = x.shape(1) / spec.head_dim;
  // Each row is a batch entry of one token, so that it has its own offset.
  const mx::array offsets(positions.begin(), {rows}, mx::int32);
  const auto turned = mx::fast::rope(
      mx::reshape(x, {rows, heads, 1, spec.head_dim}, stream_),
      spec.dims,
      false,
      spec.base,
      1.0f,
      offsets,
      std::nullopt,
      stream_);
  return mx::reshape(turned, x.shape(), stream_);
}

mx::array MlxOps::attention(
    const AttentionSpec& spec,
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    KvCache& cache,
    int layer,
    const Batch& batch) {
  auto& arrays = static_cast<ArrayKvCache&>(cache);
  const auto heads_first = [&](const mx::array& x, const Segment& s, int n) {
    const auto rows = mx::slice(
        x, {s.first_row, 0}, {s.first_row + s.rows, x.shape(1)}, stream_);
    return mx::transpose(
        mx::reshape(rows, {1, s.rows, n, spec.head_dim}, stream_),
        {0, 2, 1, 3},
        stream_);
  };
  std::vector<mx::array> outputs;
  for (const Segment& segment : batch.segments) {
    const auto [keys, values] = arrays.update(
        segment.sequence,
        layer,
        segment.start,
        heads_first(k, segment, spec.kv_heads),
        heads_first(v, segment, spec.kv_heads));
    const auto attended = mx::fast::scaled_dot_product_attention(
        heads_first(q, segment, spec.heads),
        keys,
        values,
        spec.scale,
        segment.rows > 1 ? "causal" : "",
        {},
        {},
        false,
        stream_);
    outputs.push_back(mx::reshape(
        mx::transpose(attended, {0, 2, 1, 3}, stream_),
        {segment.rows, spec.heads * spec.head_dim},
        stream_));
  }
  return outputs.size() == 1 ? outputs[0]
                             : mx::concatenate(outputs, 0, stream_);
}

mx::array MlxOps::swiglu(const mx::array& gate, const mx::array& up) {
  const auto silu = mx::multiply(gate, mx::sigmoid(gate, stream_), stream_);
  return mx::multiply(silu, up, stream_);
}

mx::array MlxOps::add(const mx::array& a, const mx::array& b) {
  return mx::add(a, b, stream_);
}

Routing MlxOps::route(const mx::array& logits, int k, bool normalize) {
  const int rows = logits.shape(0);
  const int experts = logits.shape(1);
  const auto p =
      mx::softmax(mx::astype(logits, mx::float32, stream_), -1, true, stream_);
  // A stable sort of the negated probabilities: best first.
  const auto order = mx::argsort(mx::negative(p, stream_), -1, stream_);
  const auto ids =
      mx::slice(order, {0, 0}, {rows, std::min(k, experts)}, stream_);
  auto weights = mx::take_along_axis(p, ids, -1, stream_);
  if (normalize) {
    weights = mx::divide(weights, mx::sum(weights, -1, true, stream_), stream_);
  }
  return {
      mx::contiguous(mx::astype(ids, mx::uint32, stream_), false, stream_),
      weights};
}

mx::array MlxOps::expert_linear(
    const ExpertBank& bank,
    const MatrixPlace& place,
    const mx::array& x,
    const mx::array& slots) {
  MatrixArrays w = matrix_arrays(bank.memory, place, bank.count, bank.pitch);
  if (w.scales) {
    convert_scales(w, dtype_, stream_);
    return mx::gather_qmm(
        x,
        w.weight,
        *w.scales,
        w.biases,
        std::nullopt,
        slots,
        true,
        place.matrix.group_size,
        place.matrix.bits,
        mlx_mode(place.matrix.type),
        std::nullopt,
        false,
        stream_);
  }
  const auto dtype = gathers(w.weight.dtype(), stream_) ? dtype_ : mx::float32;
  const auto weight =
      mx::swapaxes(mx::astype(w.weight, dtype, stream_), -1, -2, stream_);
  return mx::astype(
      mx::gather_mm(
          mx::astype(x, dtype, stream_),
          weight,
          std::nullopt,
          slots,
          false,
          stream_),
      dtype_,
      stream_);
}

mx::array MlxOps::expert_rows(
    const ExpertBank& bank,
    const ExpertRecord& record,
    const mx::array& x,
    const mx::array& slots) {
  const int n = x.shape(0);
  const auto row = mx::reshape(x, {n, 1, x.shape(1)}, stream_);
  const auto gate = expert_linear(bank, record.gate, row, slots);
  const auto up = expert_linear(bank, record.up, row, slots);
  const auto y = expert_linear(bank, record.down, swiglu(gate, up), slots);
  return mx::reshape(y, {n, y.shape(-1)}, stream_);
}

// y: [rows * k, hidden], weights: [rows, k] -> [rows, hidden].
mx::array MlxOps::weighted_sum(const mx::array& y, const mx::array& weights) {
  const auto grouped =
      mx::reshape(y, {weights.shape(0), weights.shape(1), y.shape(1)}, stream_);
  const auto w =
      mx::expand_dims(mx::astype(weights, dtype_, stream_), -1, stream_);
  return mx::sum(mx::multiply(grouped, w, stream_), 1, false, stream_);
}

mx::array MlxOps::combine(
    const std::vector<mx::array>& parts,
    const std::vector<int32_t>& place,
    const mx::array& weights) {
  return weighted_sum(
      select_rows(mx::concatenate(parts, 0, stream_), place), weights);
}

mx::array MlxOps::experts(
    const ExpertBank& bank,
    const ExpertRecord& record,
    const mx::array& x,
    const mx::array& slots,
    const mx::array& weights) {
  const int rows = x.shape(0);
  const int k = slots.shape(1);
  const auto pairs = mx::repeat(x, k, 0, stream_);
  const auto y =
      expert_rows(bank, record, pairs, mx::reshape(slots, {rows * k}, stream_));
  return weighted_sum(y, weights);
}

mx::array MlxOps::select_rows(
    const mx::array& x,
    const std::vector<int32_t>& indices) {
  const mx::array index(
      indices.begin(), {static_cast<int>(indices.size())}, mx::int32);
  return mx::take(x, index, 0, stream_);
}

void MlxOps::settle(const mx::array& x) {
  // A layer's graph at a time: long pending graphs hold command buffers that
  // a GPU's watchdog may end.
  if (x.shape(0) > 1) {
    mx::eval(x);
  }
}

std::unique_ptr<KvCache> MlxOps::make_kv_cache(
    const KvShape& shape,
    int64_t tokens) {
  return std::make_unique<ArrayKvCache>(shape, tokens, dtype_, stream_);
}

} // namespace mlx_flash::ops
