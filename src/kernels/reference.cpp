// The double-precision references: plain loops, to be read rather than run.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/expert_mlp.h"
#include "kernels/float_convert.h"
#include "kernels/matmul.h"

namespace mlx_flash::kernels {
namespace {

std::vector<double> weight_row(const Matrix& w, int64_t row) {
  std::vector<double> out(static_cast<size_t>(w.in));
  const std::byte* start = w.weight + row * row_bytes(w);
  for (int64_t i = 0; i < w.in; ++i) {
    double value = 0;
    if (w.type == WeightType::affine) {
      const int64_t group = row * (w.in / w.group_size) + i / w.group_size;
      const double scale = load_float(w.scales, w.scale_type, group);
      const double bias = load_float(w.biases, w.scale_type, group);
      value = scale * load_code(start, w.bits, i) + bias;
    } else if (w.type == WeightType::mxfp4) {
      const int64_t group = row * (w.in / w.group_size) + i / w.group_size;
      const double scale = load_float(w.scales, w.scale_type, group);
      value = scale * 0.5 * kTwiceE2m1[load_code(start, w.bits, i)];
    } else {
      value = load_float(start, number_type(w.type), i);
    }
    out[static_cast<size_t>(i)] = value;
  }
  return out;
}

double silu(double a) {
  return a / (1.0 + std::exp(-a));
}

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

// x as products with `w` take it. int8: rounded to multiples of a scale per
// group of weights, in the arithmetic of f32 that prepare_rows() uses.
std::vector<double>
taken(Precision precision, const Matrix& w, const float* x) {
  std::vector<double> out(x, x + w.in);
  if (precision == Precision::f32 || !is_quantised(w)) {
    return out;
  }
  for (int64_t g = 0; g < w.in; g += w.group_size) {
    float most = 0;
    for (int64_t i = g; i < g + w.group_size; ++i) {
      most = std::max(most, std::abs(x[i]));
    }
    const float factor = most > 0 ? 127.0f / most : 0;
    for (int64_t i = g; i < g + w.group_size; ++i) {
      const double integer = std::nearbyint(static_cast<double>(x[i] * factor));
      out[static_cast<size_t>(i)] =
          integer * static_cast<double>(most / 127.0f);
    }
  }
  return out;
}

using DoubleRows = std::vector<std::vector<double>>;

DoubleRows
taken_rows(Precision precision, const Matrix& w, const ConstRows& x) {
  DoubleRows rows;
  for (int64_t r = 0; r < x.count; ++r) {
    rows.push_back(taken(precision, w, x[r]));
  }
  return rows;
}

// y[r][o] in double precision, [rows, out].
std::vector<double> product(const Matrix& w, const DoubleRows& x) {
  const auto rows = static_cast<int64_t>(x.size());
  std::vector<double> y(static_cast<size_t>(rows * w.out));
  for (int64_t o = 0; o < w.out; ++o) {
    const std::vector<double> weights = weight_row(w, o);
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < w.in; ++i) {
        sum += weights[static_cast<size_t>(i)] *
            x[static_cast<size_t>(r)][static_cast<size_t>(i)];
      }
      y[static_cast<size_t>(r * w.out + o)] = sum;
    }
  }
  return y;
}

void round_rows(
    const std::vector<double>& from,
    int64_t n,
    const MutableRows& y) {
  for (int64_t r = 0; r < y.count; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      y[r][i] = static_cast<float>(from[static_cast<size_t>(r * n + i)]);
    }
  }
}

// A query as products with its keys take it. i16: rounded as kv_words-inl.h's
// rounding_factor() and round_numbers() say, with a sum in sum_magnitudes()'s
// order.
std::vector<double> taken_query(const KvLayout& kv, const float* query) {
  std::vector<double> out(query, query + kv.head_dim);
  if (kv.type == KvType::f32) {
    return out;
  }
  float sums[16] = {};
  float most = 0;
  for (int64_t i = 0; i < kv.head_dim; ++i) {
    sums[i % 16] += std::abs(query[i]);
    most = std::max(most, std::abs(query[i]));
  }
  for (int64_t half = 8; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) {
      sums[i] += sums[i + half];
    }
  }
  const float room = room_for_rounding(kKvFactors, kv.head_dim);
  const float factor =
      most < kKvLeast ? 0.0f : std::min(32767.0f / most, room / sums[0]);
  const float unit = (factor > 0 ? 1 / factor : 0) + 0 * sums[0];
  for (double& number : out) {
    number = std::nearbyint(number * double{factor}) * double{unit};
  }
  return out;
}

// One head of one row.
void attend_head(
    const AttentionShape& shape,
    const AttentionRow& row,
    int64_t head) {
  const KvLayout& kv = shape.kv;
  const int64_t kv_head = head / (shape.heads / kv.kv_heads);
  const auto query = taken_query(kv, row.query + head * kv.head_dim);
  std::vector<double> weights(static_cast<size_t>(row.length));
  double most = -std::numeric_limits<double>::infinity();
  for (int64_t p = 0; p < row.length; ++p) {
    double score = 0;
    for (int64_t i = 0; i < kv.head_dim; ++i) {
      score += double{load_key(kv, row.pages, kv_head, p, i)} *
          query[static_cast<size_t>(i)];
    }
    score *= double{shape.scale};
    weights[static_cast<size_t>(p)] = score;
    most = std::max(most, score);
  }
  double sum = 0;
  std::vector<double> out(static_cast<size_t>(kv.head_dim));
  for (int64_t p = 0; p < row.length; ++p) {
    const double weight = std::exp(weights[static_cast<size_t>(p)] - most);
    sum += weight;
    for (int64_t i = 0; i < kv.head_dim; ++i) {
      out[static_cast<size_t>(i)] +=
          weight * double{load_value(kv, row.pages, kv_head, p, i)};
    }
  }
  for (int64_t i = 0; i < kv.head_dim; ++i) {
    row.out[head * kv.head_dim + i] =
        static_cast<float>(out[static_cast<size_t>(i)] / sum);
  }
}

} // namespace

void reference_matmul(
    Precision precision,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y) {
  round_rows(product(w, taken_rows(precision, w, x)), w.out, y);
}

void reference_expert_mlp(
    Precision precision,
    const Expert& expert,
    const ConstRows& x,
    const MutableRows& y) {
  const auto& [gate, up, down] = expert;
  const auto gates = product(gate, taken_rows(precision, gate, x));
  const auto ups = product(up, taken_rows(precision, up, x));
  DoubleRows inner;
  for (int64_t r = 0; r < x.count; ++r) {
    std::vector<float> row;
    for (int64_t i = r * gate.out; i < (r + 1) * gate.out; ++i) {
      const auto at = static_cast<size_t>(i);
      row.push_back(static_cast<float>(silu(gates[at]) * ups[at]));
    }
    inner.push_back(taken(precision, down, row.data()));
  }
  round_rows(product(down, inner), down.out, y);
}

void reference_rms_norm(
    const float* x,
    const float* weight,
    float eps,
    int64_t rows,
    int64_t n,
    float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * n;
    const double mean = dot(from, from, n) / static_cast<double>(n);
    const double root = std::sqrt(mean + static_cast<double>(eps));
    for (int64_t i = 0; i < n; ++i) {
      out[r * n + i] = static_cast<float>(
          static_cast<double>(from[i]) / root * static_cast<double>(weight[i]));
    }
  }
}

void reference_rope(
    const float* x,
    const int32_t* positions,
    const float* frequencies,
    int64_t rows,
    int64_t heads,
    int64_t head_dim,
    int64_t dims,
    float* out) {
  const int64_t half = dims / 2;
  for (int64_t v = 0; v < rows * heads; ++v) {
    const float* from = x + v * head_dim;
    float* to = out + v * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const int32_t position = positions[v / heads];
      const double angle =
          static_cast<double>(position) * static_cast<double>(frequencies[i]);
      const double a = from[i];
      const double b = from[i + half];
      to[i] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
      to[i + half] =
          static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
    }
    std::copy(from + dims, from + head_dim, to + dims);
  }
}

void reference_swiglu(
    const float* gate,
    const float* up,
    int64_t n,
    float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>(silu(gate[i]) * static_cast<double>(up[i]));
  }
}

void reference_attention(
    const AttentionShape& shape,
    std::span<const AttentionRow> rows) {
  for (const auto& row : rows) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      attend_head(shape, row, h);
    }
  }
}

} // namespace mlx_flash::kernels
