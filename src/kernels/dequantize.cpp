#include <cmath>

#include "kernels/float_convert.h"
#include "kernels/matmul.h"

namespace mlx_flash::kernels {
namespace {

void dequantize_affine_row(const Matrix& w, int64_t row, float* out) {
  const std::byte* packed = w.weight + row * row_bytes(w);
  const int64_t groups = w.in / w.group_size;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = row * groups + g;
    const float scale = load_float(w.scales, w.scale_type, at);
    const float bias = load_float(w.biases, w.scale_type, at);
    for (int64_t i = g * w.group_size; i < (g + 1) * w.group_size; ++i) {
      const auto q = static_cast<float>(load_code(packed, w.bits, i));
      // The product of a 16-bit scale and 8 bits is exact, so the sum is the
      // only rounding; with f32 scales a fused operation is needed for that.
      out[i] = w.scale_type == ScaleType::f32 ? std::fma(scale, q, bias)
                                              : scale * q + bias;
    }
  }
}

void dequantize_mxfp4_row(const Matrix& w, int64_t row, float* out) {
  const std::byte* packed = w.weight + row * row_bytes(w);
  const int64_t groups = w.in / w.group_size;
  for (int64_t g = 0; g < groups; ++g) {
    const float scale = load_float(w.scales, w.scale_type, row * groups + g);
    for (int64_t i = g * w.group_size; i < (g + 1) * w.group_size; ++i) {
      const auto twice =
          static_cast<float>(kTwiceE2m1[load_code(packed, w.bits, i)]);
      out[i] = scale * (0.5f * twice);
    }
  }
}

} // namespace

void dequantize_row(const Matrix& w, int64_t row, float* out) {
  if (w.type == WeightType::affine) {
    return dequantize_affine_row(w, row, out);
  }
  if (w.type == WeightType::mxfp4) {
    return dequantize_mxfp4_row(w, row, out);
  }
  const std::byte* start = w.weight + row * row_bytes(w);
  for (int64_t i = 0; i < w.in; ++i) {
    out[i] = load_float(start, number_type(w.type), i);
  }
}

} // namespace mlx_flash::kernels
