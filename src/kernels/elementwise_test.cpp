// Goal: near the double-precision references on every SIMD target, and the
// same bits wherever an element or a row stands.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/product.h"
#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

// Relative to the larger of the expected value and `least`.
void check_close(
    const std::vector<float>& values,
    const std::vector<float>& expected,
    double tolerance,
    double least) {
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double e = expected[i];
    CAPTURE(i);
    CAPTURE(e);
    REQUIRE(
        std::abs(static_cast<double>(values[i]) - e) <=
        tolerance * std::max(std::abs(e), least));
  }
}

TEST_CASE("rms_norm: near the reference for any length") {
  const uint64_t seed = 31;
  CAPTURE(seed);
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(seed);
    for (int round = 0; round < 40; ++round) {
      const auto n = 1 + static_cast<int64_t>(rng.below(300));
      const auto rows = 1 + static_cast<int64_t>(rng.below(5));
      CAPTURE(n);
      const auto x = random_floats(rng, rows * n, -3, 3);
      const auto weight = random_floats(rng, n);
      std::vector<float> out(x.size());
      std::vector<float> expected(x.size());
      rms_norm(pool, x.data(), weight.data(), 1e-6f, rows, n, out.data());
      reference_rms_norm(
          x.data(), weight.data(), 1e-6f, rows, n, expected.data());
      check_close(out, expected, 1e-6, 1e-6);
    }
  });
}

TEST_CASE("rms_norm: a row's bits are its own; in place is the same") {
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(32);
    constexpr int64_t kRows = 400;
    constexpr int64_t kN = 133;
    auto x = random_floats(rng, kRows * kN);
    const auto weight = random_floats(rng, kN);
    std::vector<float> single(x.size());
    for (int64_t r = 0; r < kRows; ++r) {
      rms_norm(
          one,
          x.data() + r * kN,
          weight.data(),
          1e-5f,
          1,
          kN,
          single.data() + r * kN);
    }
    rms_norm(three, x.data(), weight.data(), 1e-5f, kRows, kN, x.data());
    CHECK(same_bits(x.data(), single.data(), kRows * kN));
  });
}

struct Angles {
  std::vector<float> cosines;
  std::vector<float> sines;
};

Angles angles_of(
    ThreadPool& pool,
    const int32_t* positions,
    int64_t rows,
    const std::vector<float>& frequencies) {
  const auto pairs = static_cast<int64_t>(frequencies.size());
  Angles angles;
  angles.cosines.resize(static_cast<size_t>(rows * pairs));
  angles.sines.resize(angles.cosines.size());
  rope_angles(
      pool,
      positions,
      frequencies.data(),
      rows,
      pairs,
      angles.cosines.data(),
      angles.sines.data());
  return angles;
}

TEST_CASE("rope: near the reference, also at position 100,000") {
  const uint64_t seed = 33;
  CAPTURE(seed);
  ThreadPool pool(2);
  struct Shape {
    int64_t heads;
    int64_t head_dim;
    int64_t dims;
  };
  const Shape shapes[] = {
      {4, 128, 128},
      {2, 128, 64},
      {3, 20, 20},
      {1, 2, 2},
      {2, 10, 6},
      {1, 320, 300}};
  for_each_target([&] {
    Rng rng(seed);
    for (const auto& s : shapes) {
      CAPTURE(s.head_dim);
      CAPTURE(s.dims);
      std::vector<float> frequencies;
      for (int64_t i = 0; i < s.dims / 2; ++i) {
        frequencies.push_back(static_cast<float>(std::pow(
            1e6, -2.0 * static_cast<double>(i) / static_cast<double>(s.dims))));
      }
      const int32_t positions[] = {0, 1, 7, 511, 40'960, 99'999, 100'000};
      auto x = random_floats(rng, 7 * s.heads * s.head_dim);
      std::vector<float> out(x.size());
      std::vector<float> expected(x.size());
      const auto angles = angles_of(pool, positions, 7, frequencies);
      rope(
          pool,
          x.data(),
          angles.cosines.data(),
          angles.sines.data(),
          7,
          s.heads,
          s.head_dim,
          s.dims,
          out.data());
      reference_rope(
          x.data(),
          positions,
          frequencies.data(),
          7,
          s.heads,
          s.head_dim,
          s.dims,
          expected.data());
      check_close(out, expected, 3e-7, 1);
      rope(
          pool,
          x.data(),
          angles.cosines.data(),
          angles.sines.data(),
          7,
          s.heads,
          s.head_dim,
          s.dims,
          x.data());
      CHECK(same_bits(x.data(), out.data(), 7 * s.heads * s.head_dim));
    }
  });
}

TEST_CASE("rope: a row's bits do not depend on the other rows") {
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(34);
    constexpr int64_t kRows = 60;
    constexpr int64_t kSize = 2 * 64;
    const auto frequencies = random_floats(rng, 32, 0, 1);
    std::vector<int32_t> positions;
    for (int64_t r = 0; r < kRows; ++r) {
      positions.push_back(static_cast<int32_t>(rng.below(5000)));
    }
    const auto x = random_floats(rng, kRows * kSize);
    std::vector<float> all(x.size());
    const auto angles = angles_of(three, positions.data(), kRows, frequencies);
    rope(
        three,
        x.data(),
        angles.cosines.data(),
        angles.sines.data(),
        kRows,
        2,
        64,
        64,
        all.data());
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<float> row(kSize);
      const auto own =
          angles_of(one, &positions[static_cast<size_t>(r)], 1, frequencies);
      rope(
          one,
          x.data() + r * kSize,
          own.cosines.data(),
          own.sines.data(),
          1,
          2,
          64,
          64,
          row.data());
      REQUIRE(same_bits(row.data(), all.data() + r * kSize, kSize));
    }
  });
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  std::copy_n(gate, n, out);
  gate_products(up, n, out);
}

TEST_CASE("swiglu: within a few roundings of the reference") {
  const uint64_t seed = 35;
  CAPTURE(seed);
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(seed);
    // With up = 1 the result is silu: exp is wrong by 2e-7 at most, and the
    // sum, the quotient and the product round once each.
    auto gate = random_floats(rng, 20'000, -80, 80);
    const auto near_zero = random_floats(rng, 20'000, -3, 3);
    gate.insert(gate.end(), near_zero.begin(), near_zero.end());
    const std::vector<float> up(gate.size(), 1.0f);
    std::vector<float> out(gate.size());
    std::vector<float> expected(gate.size());
    const auto n = static_cast<int64_t>(gate.size());
    swiglu(gate.data(), up.data(), n, out.data());
    reference_swiglu(gate.data(), up.data(), n, expected.data());
    check_close(out, expected, 3.5e-7, 1e-37);
  });
}

TEST_CASE("swiglu: extremes are what silu tends to, and NaN is NaN") {
  ThreadPool pool(1);
  const float kMost = std::numeric_limits<float>::max();
  const float kInfinity = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    const float gate[] = {
        0.0f,
        -0.0f,
        90.0f,
        -90.0f,
        110.0f,
        -110.0f,
        kMost,
        -kMost,
        kInfinity,
        std::numeric_limits<float>::quiet_NaN(),
        std::numeric_limits<float>::denorm_min()};
    constexpr int64_t kN = std::size(gate);
    const std::vector<float> up(kN, 1.0f);
    float out[kN];
    swiglu(gate, up.data(), kN, out);
    CHECK(out[0] == 0.0f);
    CHECK(out[1] == 0.0f);
    CHECK(out[2] == 90.0f);
    CHECK(std::abs(out[3]) < 1e-36f);
    CHECK(out[4] == 110.0f);
    CHECK(std::abs(out[5]) < 1e-36f);
    CHECK(out[6] == kMost);
    CHECK(out[7] == 0.0f);
    CHECK(out[8] == kInfinity);
    CHECK(std::isnan(out[9]));
    CHECK(std::abs(out[10]) < 1e-44f);
  });
}

TEST_CASE("swiglu and add: an element's bits do not depend on its place") {
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(36);
    constexpr int64_t kN = 70'001;
    const auto a = random_floats(rng, kN, -20, 20);
    const auto b = random_floats(rng, kN);
    std::vector<float> gated(kN);
    std::vector<float> sums(kN);
    swiglu(a.data(), b.data(), kN, gated.data());
    add(three, a.data(), b.data(), kN, sums.data());
    for (int64_t n = 1; n < 40; ++n) {
      const auto at = static_cast<int64_t>(rng.below(kN - 40));
      std::vector<float> part(static_cast<size_t>(n));
      swiglu(a.data() + at, b.data() + at, n, part.data());
      CHECK(same_bits(part.data(), gated.data() + at, n));
      add(one, a.data() + at, b.data() + at, n, part.data());
      CHECK(same_bits(part.data(), sums.data() + at, n));
    }
    for (size_t i = 0; i < sums.size(); i += 97) {
      CHECK(sums[i] == a[i] + b[i]);
    }
  });
}

TEST_CASE("add: in place is the same") {
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(37);
    auto a = random_floats(rng, 1003);
    const auto b = random_floats(rng, 1003);
    std::vector<float> out(1003);
    add(pool, a.data(), b.data(), 1003, out.data());
    add(pool, a.data(), b.data(), 1003, a.data());
    CHECK(same_bits(a.data(), out.data(), 1003));
  });
}

TEST_CASE("combine_experts: the weighted sum, the same for any rows") {
  const uint64_t seed = 38;
  CAPTURE(seed);
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(seed);
    constexpr int64_t kRows = 40;
    constexpr int64_t kK = 8;
    constexpr int64_t kN = 515;
    const auto y = random_floats(rng, kRows * kK * kN);
    const auto weights = random_floats(rng, kRows * kK, 0, 1);
    std::vector<float> out(kRows * kN);
    combine_experts(three, y.data(), weights.data(), kRows, kK, kN, out.data());
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<float> row(kN);
      combine_experts(
          one,
          y.data() + r * kK * kN,
          weights.data() + r * kK,
          1,
          kK,
          kN,
          row.data());
      REQUIRE(same_bits(row.data(), out.data() + r * kN, kN));
      for (int64_t i = 0; i < kN; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < kK; ++j) {
          sum += static_cast<double>(weights[static_cast<size_t>(r * kK + j)]) *
              static_cast<double>(
                     y[static_cast<size_t>((r * kK + j) * kN + i)]);
        }
        REQUIRE(
            std::abs(static_cast<double>(row[static_cast<size_t>(i)]) - sum) <
            2e-6);
      }
    }
  });
}

TEST_CASE("elementwise: targets with a fused multiply-add agree bit for bit") {
  std::vector<float> first;
  for_each_target([&] {
    if (!has_fused_multiply_add()) {
      return;
    }
    constexpr int64_t kRows = 200;
    Rng rng(39);
    ThreadPool pool(1);
    const auto x = random_floats(rng, kRows * 77, -4, 4);
    const auto weight = random_floats(rng, 77);
    std::vector<float> out(2 * x.size());
    rms_norm(pool, x.data(), weight.data(), 1e-6f, kRows, 77, out.data());
    swiglu(x.data(), x.data(), kRows * 77, out.data() + x.size());
    if (first.empty()) {
      first = out;
    }
    CHECK(same_bits(out.data(), first.data(), 2 * kRows * 77));
  });
}

} // namespace
} // namespace mlx_flash::kernels
