// What the tests of the kernels share: a loop over the SIMD targets that were
// compiled and that this processor has, random numbers and random matrices.
#pragma once

#include "kernels/simd_targets.h"

#include <doctest/doctest.h>
#include <hwy/highway.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/byte_dot.h"
#include "kernels/float_convert.h"
#include "kernels/matrix.h"

namespace mlx_flash::kernels {

// What all kernels use as long as this lives.
class ChosenTarget {
 public:
  ChosenTarget(int64_t target, bool byte_dot) {
    choose(target);
    allow_byte_dot(byte_dot);
  }
  ~ChosenTarget() {
    allow_byte_dot(true);
    choose(0);
  }
  ChosenTarget(const ChosenTarget&) = delete;
  ChosenTarget& operator=(const ChosenTarget&) = delete;

 private:
  static void choose(int64_t target) { // 0: all
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

// Calls body() once per target, with that target chosen for all kernels, and
// with and without the instruction of kernels/byte_dot.h.
template <typename Body>
void for_each_target(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    for (const bool byte_dot : {true, false}) {
      INFO("target " << name << (byte_dot ? "" : " without byte dot"));
      const ChosenTarget chosen(target, byte_dot);
      body();
    }
  }
}

// Of the chosen target.
inline bool has_fused_multiply_add() {
  const int64_t target = hwy::SupportedTargets() & HWY_TARGETS;
  const std::string name = hwy::TargetName(target & -target);
  return name.starts_with("AVX") || name.starts_with("NEON");
}

inline float random_float(Rng& rng, double low = -1, double high = 1) {
  return static_cast<float>(low + (high - low) * rng.uniform());
}

inline std::vector<float>
random_floats(Rng& rng, int64_t n, double low = -1, double high = 1) {
  std::vector<float> out(static_cast<size_t>(n));
  for (auto& value : out) {
    value = random_float(rng, low, high);
  }
  return out;
}

inline bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

// Bytes at an odd address, of exactly the asked size, so that the address
// sanitizer sees a read past the end.
class OddBytes {
 public:
  OddBytes() = default;
  explicit OddBytes(int64_t size) : memory_(static_cast<size_t>(size) + 1) {}
  std::byte* data() {
    return memory_.data() + 1;
  }
  int64_t size() const {
    return static_cast<int64_t>(memory_.size()) - 1;
  }

 private:
  std::vector<std::byte> memory_;
};

struct WeightKind {
  WeightType type;
  int bits = 0;
  int group_size = 0;
  ScaleType scale_type = ScaleType::bf16;

  std::string name() const {
    constexpr const char* kNumbers[] = {"f32", "f16", "bf16"};
    if (type == WeightType::mxfp4) {
      return "mxfp4";
    }
    if (type != WeightType::affine) {
      return kNumbers[static_cast<int>(type)];
    }
    return std::to_string(bits) + "-bit g" + std::to_string(group_size) + " " +
        kNumbers[static_cast<int>(scale_type)];
  }
};

inline constexpr WeightKind kMxfp4Kind{
    WeightType::mxfp4,
    4,
    32,
    ScaleType::e8m0};

inline std::vector<WeightKind> all_weight_kinds() {
  std::vector<WeightKind> kinds = {
      {WeightType::f32}, {WeightType::f16}, {WeightType::bf16}, kMxfp4Kind};
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      for (const auto scale :
           {ScaleType::f32, ScaleType::f16, ScaleType::bf16}) {
        kinds.push_back({WeightType::affine, bits, group, scale});
      }
    }
  }
  return kinds;
}

// One kind of each number of bits, mxfp4 and the dense ones.
inline std::vector<WeightKind> some_weight_kinds() {
  using enum ScaleType;
  return {
      {WeightType::f32},
      {WeightType::f16},
      {WeightType::bf16},
      kMxfp4Kind,
      {WeightType::affine, 2, 64, bf16},
      {WeightType::affine, 3, 32, f16},
      {WeightType::affine, 4, 64, bf16},
      {WeightType::affine, 4, 32, f32},
      {WeightType::affine, 5, 128, bf16},
      {WeightType::affine, 6, 64, f32},
      {WeightType::affine, 8, 64, bf16}};
}

// A matrix of random weights, finite and of magnitude about one.
class RandomMatrix {
 public:
  RandomMatrix(Rng& rng, const WeightKind& kind, int64_t out, int64_t in) {
    matrix_.type = kind.type;
    matrix_.scale_type = kind.scale_type;
    matrix_.bits = kind.bits;
    matrix_.group_size = kind.group_size;
    matrix_.out = out;
    matrix_.in = in;
    if (is_quantised(matrix_)) {
      const int64_t groups = out * (in / kind.group_size);
      weight_ = random_bytes(rng, out * row_bytes(matrix_), 0, 255);
      if (kind.type == WeightType::mxfp4) {
        scales_ = random_bytes(rng, groups, 123, 126);
      } else {
        const double scale = 2.0 / (1 << kind.bits);
        scales_ = numbers(rng, kind.scale_type, groups, 0.1 * scale, scale);
        biases_ = numbers(rng, kind.scale_type, groups, -1.2, -0.8);
      }
    } else {
      weight_ = numbers(rng, number_type(kind.type), out * in, -1, 1);
    }
    matrix_.weight = weight_.data();
    matrix_.scales = scales_.data();
    matrix_.biases = biases_.data();
  }
  RandomMatrix(const RandomMatrix&) = delete;
  RandomMatrix& operator=(const RandomMatrix&) = delete;

  const Matrix& get() const {
    return matrix_;
  }
  std::byte* scales() {
    return scales_.data();
  }
  std::byte* weight() {
    return weight_.data();
  }

  // The sum of the magnitudes that y[o] adds up: what rounding is relative to.
  double magnitude(int64_t o, const float* x) const {
    double sum = 0;
    const Matrix& w = matrix_;
    for (int64_t i = 0; i < w.in; ++i) {
      double value = 0;
      if (is_quantised(w)) {
        const int64_t group = o * (w.in / w.group_size) + i / w.group_size;
        const uint32_t code = load_code(w.weight + o * row_bytes(w), w.bits, i);
        const double scale =
            std::abs(load_float(w.scales, w.scale_type, group));
        value = w.type == WeightType::mxfp4
            ? scale * std::abs(0.5 * kTwiceE2m1[code])
            : scale * code +
                std::abs(load_float(w.biases, w.scale_type, group));
      } else {
        value =
            std::abs(load_float(w.weight, number_type(w.type), o * w.in + i));
      }
      sum += value * std::abs(static_cast<double>(x[i]));
    }
    return sum;
  }

 private:
  static OddBytes
  random_bytes(Rng& rng, int64_t count, uint64_t low, uint64_t high) {
    OddBytes bytes(count);
    for (int64_t i = 0; i < count; ++i) {
      bytes.data()[i] = static_cast<std::byte>(low + rng.below(high - low + 1));
    }
    return bytes;
  }

  static OddBytes
  numbers(Rng& rng, ScaleType type, int64_t count, double low, double high) {
    OddBytes bytes(count * (type == ScaleType::f32 ? 4 : 2));
    for (int64_t i = 0; i < count; ++i) {
      const float value = random_float(rng, low, high);
      if (type == ScaleType::f32) {
        std::memcpy(bytes.data() + i * 4, &value, 4);
        continue;
      }
      const uint16_t half = type == ScaleType::bf16
          ? static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16)
          : to_f16(value);
      std::memcpy(bytes.data() + i * 2, &half, 2);
    }
    return bytes;
  }

  // Rounds towards zero; numbers below 2^-14 become subnormal.
  static uint16_t to_f16(float value) {
    const uint32_t sign = value < 0 ? 0x8000 : 0;
    const float magnitude = std::abs(value);
    if (magnitude < 0x1.0p-14f) {
      return static_cast<uint16_t>(
          sign | static_cast<uint32_t>(magnitude * 0x1.0p24f));
    }
    const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
    return static_cast<uint16_t>(sign | ((bits >> 13) - (112u << 10)));
  }

  Matrix matrix_;
  OddBytes weight_;
  OddBytes scales_;
  OddBytes biases_;
};

} // namespace mlx_flash::kernels
