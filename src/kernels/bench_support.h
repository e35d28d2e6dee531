// What the kernels' benchmarks share: random matrices of any form, in large
// pages as the engine keeps weights, rows of activations, and counters.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/rng.h"
#include "kernels/matrix.h"
#include "platform/large_pages.h"

namespace mlx_flash::kernels {

struct BenchForm {
  WeightType type;
  int bits = 0;
  int group_size = 0;

  // The matrix without its arrays.
  Matrix matrix(int64_t out, int64_t in) const {
    Matrix m;
    m.type = type;
    m.scale_type =
        type == WeightType::mxfp4 ? ScaleType::e8m0 : ScaleType::bf16;
    m.bits = bits;
    m.group_size = group_size;
    m.out = out;
    m.in = in;
    return m;
  }

  // Of a row.
  int64_t weight_bytes(int64_t in) const {
    return row_bytes(matrix(1, in));
  }
  int64_t scale_bytes(int64_t in) const {
    return group_size == 0
        ? 0
        : in / group_size * kernels::scale_bytes(matrix(1, in).scale_type);
  }
  int64_t bias_bytes(int64_t in) const {
    return type == WeightType::affine ? scale_bytes(in) : 0;
  }
  int64_t bytes(int64_t in) const {
    return weight_bytes(in) + scale_bytes(in) + bias_bytes(in);
  }
};

inline constexpr BenchForm kBenchF32{WeightType::f32};
inline constexpr BenchForm kBenchBf16{WeightType::bf16};
inline constexpr BenchForm kBenchQ4{WeightType::affine, 4, 64};
inline constexpr BenchForm kBenchQ8{WeightType::affine, 8, 64};
inline constexpr BenchForm kBenchMxfp4{WeightType::mxfp4, 4, 32};

// Random memory. Numbers in it are of magnitude 2^-7 .. 2^-4.
class BenchMemory {
 public:
  enum class Kind : uint8_t { bits, bf16, f32, e8m0 };

  BenchMemory(Rng& rng, Kind kind, int64_t bytes)
      : buffer_(static_cast<size_t>(bytes) + 64) {
    prefer_large_pages(buffer_.span());
    // Random for so much, and then again: making numbers takes long.
    const size_t fresh = std::min<size_t>(buffer_.size(), 1 << 20);
    for (size_t i = 0; i + 8 <= fresh; i += 8) {
      const uint64_t word = masked(kind, rng.next());
      std::memcpy(buffer_.data() + i, &word, 8);
    }
    for (size_t at = fresh; at < buffer_.size(); at += fresh) {
      std::memcpy(
          buffer_.data() + at,
          buffer_.data(),
          std::min(fresh, buffer_.size() - at));
    }
  }

  const std::byte* data() const {
    return buffer_.data();
  }

 private:
  static uint64_t masked(Kind kind, uint64_t word) {
    switch (kind) {
      case Kind::bits:
        return word;
      case Kind::bf16:
        return (word & 0x80FF80FF80FF80FF) | 0x3C003C003C003C00;
      case Kind::f32:
        return (word & 0x80FFFFFF80FFFFFF) | 0x3C0000003C000000;
      case Kind::e8m0:
        return (word & 0x0303030303030303) | 0x7878787878787878;
    }
    return word;
  }

  AlignedBuffer buffer_;
};

class BenchMatrix {
 public:
  BenchMatrix(const BenchForm& form, int64_t out, int64_t in)
      : BenchMatrix(form, out, in, Rng(1)) {}

  const Matrix& get() const {
    return matrix_;
  }
  int64_t bytes() const {
    return bytes_;
  }

 private:
  using Kind = BenchMemory::Kind;

  BenchMatrix(const BenchForm& form, int64_t out, int64_t in, Rng rng)
      : matrix_(form.matrix(out, in)),
        weight_(rng, weight_kind(form.type), out * form.weight_bytes(in)),
        scales_(
            rng,
            form.type == WeightType::mxfp4 ? Kind::e8m0 : Kind::bf16,
            out * form.scale_bytes(in)),
        biases_(rng, Kind::bf16, out * form.bias_bytes(in)),
        bytes_(out * form.bytes(in)) {
    matrix_.weight = weight_.data();
    matrix_.scales = scales_.data();
    matrix_.biases = biases_.data();
  }

  static Kind weight_kind(WeightType type) {
    return type == WeightType::f32 ? Kind::f32
        : type == WeightType::bf16 ? Kind::bf16
                                   : Kind::bits;
  }

  Matrix matrix_;
  BenchMemory weight_;
  BenchMemory scales_;
  BenchMemory biases_;
  int64_t bytes_;
};

// A counter of 10^9 a second, of which each iteration made `amount`.
inline void
count_rate(benchmark::State& state, const char* name, double amount) {
  using benchmark::Counter;
  const auto runs = static_cast<double>(state.iterations());
  state.counters[name] = Counter(amount * runs / 1e9, Counter::kIsRate);
}

// As many f32 numbers, read or written.
inline void count_floats(benchmark::State& state, int64_t floats) {
  count_rate(state, "GB/s", 4.0 * static_cast<double>(floats));
}

inline std::vector<float> bench_rows(int64_t rows, int64_t in) {
  Rng rng(2);
  std::vector<float> x(static_cast<size_t>(rows * in));
  for (auto& value : x) {
    value = static_cast<float>(rng.uniform() * 2 - 1);
  }
  return x;
}

} // namespace mlx_flash::kernels
