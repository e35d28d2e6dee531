#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
#include "hwy/foreach_target.h"

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

void normalize_row(
    const float* x,
    const float* weight,
    float eps,
    int64_t n,
    float* out) {
  SumLanes squares;
  for (int64_t i = 0; i < n; i += kSumLanes) {
    for (int64_t p = 0; p < kSumParts; ++p) {
      const int64_t at = i + p * kLanes;
      if (at < n) {
        const Floats v = load_up_to(x + at, n - at, 0);
        squares.part[p] = hn::MulAdd(v, v, squares.part[p]);
      }
    }
  }
  const float mean = squares.sum() / static_cast<float>(n);
  const Floats factor = hn::Set(kFloats, 1.0f / std::sqrt(mean + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats scaled = hn::Mul(load_up_to(x + i, n - i, 0), factor);
    const Floats w = load_up_to(weight + i, n - i, 0);
    store_up_to(hn::Mul(scaled, w), n - i, out + i);
  }
}

// Rotates `n` pairs x[i], x[i + half] by angles of the given cosines and
// sines.
void rotate_pairs(
    const float* x,
    int64_t half,
    const float* cosines,
    const float* sines,
    int64_t n,
    float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats a = load_up_to(x + i, n - i, 0);
    const Floats b = load_up_to(x + i + half, n - i, 0);
    const Floats c = load_up_to(cosines + i, n - i, 0);
    const Floats s = load_up_to(sines + i, n - i, 0);
    store_up_to(hn::NegMulAdd(b, s, hn::Mul(a, c)), n - i, out + i);
    store_up_to(hn::MulAdd(b, c, hn::Mul(a, s)), n - i, out + i + half);
  }
}

struct Sum {
  HWY_INLINE Floats operator()(Floats a, Floats b) const {
    return hn::Add(a, b);
  }
};

void add_part(const float* a, const float* b, int64_t n, float* out) {
  map_pairs(Sum(), a, b, n, out);
}

// out[i] = the sum over j of weights[j] * y[j * n + i].
void combine_row(
    const float* y,
    const float* weights,
    int64_t k,
    int64_t n,
    float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats sum = hn::Zero(kFloats);
    for (int64_t j = 0; j < k; ++j) {
      sum = hn::MulAdd(
          hn::Set(kFloats, weights[j]),
          load_up_to(y + j * n + i, n - i, 0),
          sum);
    }
    store_up_to(sum, n - i, out + i);
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(normalize_row);
HWY_EXPORT(rotate_pairs);
HWY_EXPORT(add_part);
HWY_EXPORT(combine_row);

namespace {

// A thread is woken for at least this many elements.
constexpr int64_t kElementsPerChunk = 16384;

int64_t rows_per_chunk(int64_t elements_per_row) {
  return 1 + kElementsPerChunk / std::max<int64_t>(elements_per_row, 1);
}

void rotate_row(
    const float* x,
    const float* cosines,
    const float* sines,
    int64_t heads,
    int64_t head_dim,
    int64_t dims,
    float* out) {
  const int64_t half = dims / 2;
  for (int64_t h = 0; h < heads; ++h) {
    HWY_DYNAMIC_DISPATCH(rotate_pairs)(
        x + h * head_dim, half, cosines, sines, half, out + h * head_dim);
  }
  if (x != out && dims < head_dim) {
    for (int64_t h = 0; h < heads; ++h) {
      std::memcpy(
          out + h * head_dim + dims,
          x + h * head_dim + dims,
          static_cast<size_t>(head_dim - dims) * sizeof(float));
    }
  }
}

} // namespace

void rms_norm(
    ThreadPool& pool,
    const float* x,
    const float* weight,
    float eps,
    int64_t rows,
    int64_t n,
    float* out) {
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(normalize_row)(
          x + r * n, weight, eps, n, out + r * n);
    }
  };
  pool.parallel_for(rows, rows_per_chunk(n), body);
}

void rope_angles(
    ThreadPool& pool,
    const int32_t* positions,
    const float* frequencies,
    int64_t rows,
    int64_t pairs,
    float* cosines,
    float* sines) {
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(positions[r]) *
            static_cast<double>(frequencies[i]);
        cosines[r * pairs + i] = static_cast<float>(std::cos(angle));
        sines[r * pairs + i] = static_cast<float>(std::sin(angle));
      }
    }
  };
  // An angle costs about as much as a hundred elements.
  pool.parallel_for(rows, rows_per_chunk(100 * pairs), body);
}

void rope(
    ThreadPool& pool,
    const float* x,
    const float* cosines,
    const float* sines,
    int64_t rows,
    int64_t heads,
    int64_t head_dim,
    int64_t dims,
    float* out) {
  const int64_t size = heads * head_dim;
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      rotate_row(
          x + r * size,
          cosines + r * (dims / 2),
          sines + r * (dims / 2),
          heads,
          head_dim,
          dims,
          out + r * size);
    }
  };
  pool.parallel_for(rows, rows_per_chunk(size), body);
}

void add(
    ThreadPool& pool,
    const float* a,
    const float* b,
    int64_t n,
    float* out) {
  const auto body = [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(add_part)(
        a + begin, b + begin, end - begin, out + begin);
  };
  pool.parallel_for(n, 4 * kElementsPerChunk, body);
}

void combine_experts(
    ThreadPool& pool,
    const float* y,
    const float* weights,
    int64_t rows,
    int64_t k,
    int64_t n,
    float* out) {
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(combine_row)(
          y + r * k * n, weights + r * k, k, n, out + r * n);
    }
  };
  pool.parallel_for(rows, rows_per_chunk(n * k), body);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
