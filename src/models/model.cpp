#include "models/model.h"

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/expert_mlp.h"
#include "ops/experts.h"

namespace mlx_flash {

namespace {

// The most scratch any type of weights needs for an [out, in] matrix.
kernels::Matrix matrix_of(int64_t out, int64_t in, int bits) {
  kernels::Matrix m;
  m.type = bits > 0 ? kernels::WeightType::affine : kernels::WeightType::f32;
  m.bits = bits;
  m.group_size = bits > 0 ? 32 : 0;
  m.out = out;
  m.in = in;
  return m;
}

uint64_t scratch_floats(
    const ModelShape& s,
    int64_t rows,
    int64_t logit_rows,
    int threads) {
  const int64_t q_width = int64_t{s.heads} * s.head_dim;
  const int64_t widest =
      std::max<int64_t>({s.hidden, q_width, s.dense_inner, s.expert_inner});
  // Attention takes more beside pages in i16: it needs integers, too.
  uint64_t most = kernels::attention_scratch_floats(
      {s.heads, 1, {s.kv_heads, s.head_dim, kernels::KvType::i16}}, threads);
  // Integers take more than what f32 needs beside the rows.
  constexpr auto kPrecision = kernels::Precision::int8;
  // The most forms in which a layer's products may want the same rows: those
  // of the queries, the keys and the values.
  constexpr uint64_t kForms = 3;
  // 8 bits have the most columns of sums, 4 bits the widest padding of
  // integers.
  for (const int bits : {0, 4, 8}) {
    const auto square = matrix_of(widest, widest, bits);
    const auto head = matrix_of(s.vocab, s.hidden, bits);
    most = std::max<uint64_t>(
        {most,
         kernels::matmul_scratch_floats(square, kPrecision, rows, threads) +
             (kForms - 1) * kernels::prepared_floats(square, kPrecision, rows),
         kernels::matmul_scratch_floats(
             head, kPrecision, logit_rows, threads)});
    const auto form = [&](int64_t inner) {
      const auto in = matrix_of(inner, s.hidden, bits);
      return kernels::Expert{in, in, matrix_of(s.hidden, inner, bits)};
    };
    if (s.experts > 0) {
      most = std::max<uint64_t>(
          most,
          kernels::expert_mlps_scratch_floats(
              form(s.expert_inner),
              kPrecision,
              rows,
              rows * s.experts_per_token,
              threads));
    }
    if (s.dense_inner > 0) {
      // Gate and up may want different forms.
      most = std::max<uint64_t>(
          most,
          kernels::swiglu_mlp_scratch_floats(
              form(s.dense_inner), kPrecision, rows, threads) +
              kernels::prepared_floats(
                  form(s.dense_inner).up, kPrecision, rows));
    }
  }
  return most;
}

// Floats of all arrays that one layer makes for one row.
uint64_t layer_floats(const ModelShape& s) {
  const uint64_t q_width = uint64_t{1} * s.heads * s.head_dim;
  const uint64_t kv_width = uint64_t{1} * s.kv_heads * s.head_dim;
  const uint64_t experts = s.experts + 2 * s.experts_per_token;
  // Two tables of angles, each half a head.
  return 7ull * s.hidden + 4 * q_width + 4 * kv_width + 1ull * s.head_dim +
      std::max<uint64_t>(3ull * s.dense_inner, experts);
}

} // namespace

uint64_t activation_bytes(
    const ModelShape& shape,
    int64_t rows,
    int64_t logit_rows,
    int threads) {
  // On a GPU a step of one row is one graph, of which MLX allocates some
  // layers ahead of the computation; others are computed layer by layer.
  constexpr int64_t kLayersAhead = 8;
  const uint64_t floats = layer_floats(shape) *
      static_cast<uint64_t>(std::max(
          rows, std::min<int64_t>(kLayersAhead, shape.layers)));
  const uint64_t logits = uint64_t{1} * logit_rows * shape.vocab;
  return 4 *
      (floats + logits + scratch_floats(shape, rows, logit_rows, threads)) +
      ops::ExpertPass::bytes(rows, shape.experts_per_token, shape.hidden);
}

} // namespace mlx_flash
