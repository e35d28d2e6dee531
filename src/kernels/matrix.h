// A weight matrix in memory as the checkpoint stores it, and rows of
// activations. Views: they own nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_flash::kernels {

enum class WeightType : uint8_t { f32, f16, bf16, affine, mxfp4 };
enum class ScaleType : uint8_t { f32, f16, bf16, e8m0 };

// Weights [out, in], row-major. Two types are quantised in groups: codes of
// `bits` bits, packed low bits first into a little-endian bit stream (a row is
// in * bits / 8 bytes), and scales [out, in / group_size].
//   affine: MLX's, w = scale * code + bias, with biases shaped as the scales
//   mxfp4: the OCP Microscaling specification's MXFP4, w = scale * number of
//     the code (kernels/e2m1.h), with scales of type e8m0
//
// No alignment is required, and nothing is read behind the last byte of any of
// the arrays.
struct Matrix {
  WeightType type = WeightType::f32;
  ScaleType scale_type = ScaleType::bf16; // quantised; e8m0 for mxfp4 alone
  int bits = 0; // affine: 2, 3, 4, 5, 6 or 8; mxfp4: 4
  int group_size = 0; // affine: 32, 64 or 128; mxfp4: 32; divides `in`
  int64_t out = 0;
  int64_t in = 0;
  const std::byte* weight = nullptr;
  const std::byte* scales = nullptr; // quantised
  const std::byte* biases = nullptr; // affine
};

inline bool is_quantised(const Matrix& m) {
  return m.type == WeightType::affine || m.type == WeightType::mxfp4;
}

// Bytes of a scale, and of a bias.
inline int64_t scale_bytes(ScaleType type) {
  return type == ScaleType::f32 ? 4 : type == ScaleType::e8m0 ? 1 : 2;
}

// Bytes of one row of weights.
inline int64_t row_bytes(const Matrix& m) {
  switch (m.type) {
    case WeightType::f32:
      return m.in * 4;
    case WeightType::f16:
    case WeightType::bf16:
      return m.in * 2;
    case WeightType::affine:
    case WeightType::mxfp4:
      return m.in * m.bits / 8;
  }
  return 0;
}

// `count` rows of f32. Row r starts at base + (index ? index[r] : r) * stride.
struct ConstRows {
  const float* base = nullptr;
  int64_t stride = 0; // in floats
  int64_t count = 0;
  const uint32_t* index = nullptr;

  const float* operator[](int64_t r) const {
    return base + (index ? static_cast<int64_t>(index[r]) : r) * stride;
  }
};
struct MutableRows {
  float* base = nullptr;
  int64_t stride = 0;
  int64_t count = 0;
  const uint32_t* index = nullptr;

  float* operator[](int64_t r) const {
    return base + (index ? static_cast<int64_t>(index[r]) : r) * stride;
  }
};

} // namespace mlx_flash::kernels
