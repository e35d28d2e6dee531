// Goal: for every weight type and SIMD target, products are near the
// double-precision reference, and the bits of a row's product depend on that
// row alone. Method: random shapes and weights at odd addresses, seeds printed.
#include "kernels/matmul.h"

#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

// Of the magnitudes that are added up. Each block of 32 products is a chain of
// roundings, and so is the sum of blocks.
constexpr double kTolerance = 1.5e-6;

ConstRows rows_of(const std::vector<float>& x, int64_t n, int64_t count) {
  return {x.data(), n, count, nullptr};
}

MutableRows rows_in(std::vector<float>& x, int64_t n, int64_t count) {
  return {x.data(), n, count, nullptr};
}

// y = x W^T, row by row, one thread.
std::vector<float> products_of_single_rows(
    const Matrix& w,
    const ConstRows& x) {
  ThreadPool pool(1);
  Scratch scratch;
  std::vector<float> y(static_cast<size_t>(x.count * w.out));
  for (int64_t r = 0; r < x.count; ++r) {
    const ConstRows from{x[r], 0, 1, nullptr};
    const MutableRows to{y.data() + r * w.out, 0, 1, nullptr};
    matmul(pool, scratch, w, from, to);
  }
  return y;
}

int64_t random_in(Rng& rng, const WeightKind& kind, int64_t most) {
  const int64_t unit = kind.type == WeightType::affine ? kind.group_size : 1;
  return unit *
      (1 +
       static_cast<int64_t>(rng.below(
           static_cast<uint64_t>(std::max(most / unit, int64_t{1})))));
}

void check_near_reference(
    const RandomMatrix& w,
    const ConstRows& x,
    const std::vector<float>& y) {
  const int64_t out = w.get().out;
  std::vector<float> expected(y.size());
  reference_matmul(w.get(), x, rows_in(expected, out, x.count));
  for (int64_t r = 0; r < x.count; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      const auto at = static_cast<size_t>(r * out + o);
      const double error = std::abs(
          static_cast<double>(y[at]) - static_cast<double>(expected[at]));
      CAPTURE(r);
      CAPTURE(o);
      REQUIRE(error <= kTolerance * w.magnitude(o, x[r]));
    }
  }
}

TEST_CASE("matmul: every weight type is near the reference on every target") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(seed);
    Scratch scratch;
    for (const auto& kind : all_weight_kinds()) {
      CAPTURE(kind.name());
      for (const int64_t count : {1, 7}) {
        const int64_t in = random_in(rng, kind, 400);
        const int64_t out = 1 + static_cast<int64_t>(rng.below(70));
        CAPTURE(in);
        CAPTURE(out);
        const RandomMatrix w(rng, kind, out, in);
        const auto x = random_floats(rng, count * in);
        std::vector<float> y(static_cast<size_t>(count * out));
        matmul(
            pool,
            scratch,
            w.get(),
            rows_of(x, in, count),
            rows_in(y, out, count));
        check_near_reference(w, rows_of(x, in, count), y);
      }
    }
  });
}

TEST_CASE("matmul: the smallest and long, thin matrices") {
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(12);
    Scratch scratch;
    const WeightKind four{WeightType::affine, 4, 32, ScaleType::bf16};
    const WeightKind eight{WeightType::affine, 8, 64, ScaleType::f32};
    struct Case {
      WeightKind kind;
      int64_t out;
      int64_t in;
    };
    const Case cases[] = {
        {{WeightType::f32}, 1, 1},
        {{WeightType::bf16}, 1, 1},
        {{WeightType::f16}, 1, 3},
        {{WeightType::f32}, 5, 33},
        {{WeightType::bf16}, 3, 4097},
        {four, 1, 32},
        {four, 1, 12288},
        {eight, 2, 8192}};
    for (const auto& c : cases) {
      CAPTURE(c.kind.name());
      for (const int64_t count : {1, 2, 9}) {
        const RandomMatrix w(rng, c.kind, c.out, c.in);
        const auto x = random_floats(rng, count * c.in);
        std::vector<float> y(static_cast<size_t>(count * c.out));
        matmul(
            pool,
            scratch,
            w.get(),
            rows_of(x, c.in, count),
            rows_in(y, c.out, count));
        check_near_reference(w, rows_of(x, c.in, count), y);
      }
    }
  });
}

// Rows of a product of `count` rows, chosen by an index and written to
// scattered rows, against the rows' own products.
void check_gathered_rows(
    Rng& rng,
    ThreadPool& pool,
    Scratch& scratch,
    const Matrix& w,
    const std::vector<float>& x,
    int64_t x_stride,
    int64_t x_count,
    const std::vector<float>& singles,
    int64_t count) {
  std::vector<uint32_t> from;
  std::vector<uint32_t> to;
  for (int64_t r = 0; r < count; ++r) {
    from.push_back(
        static_cast<uint32_t>(rng.below(static_cast<uint64_t>(x_count))));
    to.push_back(static_cast<uint32_t>(r));
  }
  for (size_t r = to.size(); r > 1; --r) {
    std::swap(to[r - 1], to[rng.below(r)]);
  }
  const int64_t y_stride = w.out + 5;
  const float kUntouched = -7.5f;
  std::vector<float> y(static_cast<size_t>(count * y_stride), kUntouched);
  matmul(
      pool,
      scratch,
      w,
      {x.data(), x_stride, count, from.data()},
      {y.data(), y_stride, count, to.data()});
  for (int64_t r = 0; r < count; ++r) {
    const float* row = y.data() + to[static_cast<size_t>(r)] * y_stride;
    const float* own = singles.data() + from[static_cast<size_t>(r)] * w.out;
    CAPTURE(r);
    CAPTURE(count);
    CAPTURE(pool.threads());
    REQUIRE(same_bits(row, own, w.out));
    for (int64_t i = w.out; i < y_stride; ++i) {
      REQUIRE(row[i] == kUntouched);
    }
  }
}

TEST_CASE("matmul: a row's bits do not depend on other rows or on threads") {
  const uint64_t seed = 13;
  CAPTURE(seed);
  constexpr int64_t kCount = 70;
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(seed);
    Scratch scratch;
    for (const auto& kind : some_weight_kinds()) {
      CAPTURE(kind.name());
      const int64_t in = random_in(rng, kind, 300);
      const int64_t out = 1 + static_cast<int64_t>(rng.below(70));
      const int64_t stride = in + 3;
      const RandomMatrix w(rng, kind, out, in);
      const auto x = random_floats(rng, kCount * stride);
      const auto singles =
          products_of_single_rows(w.get(), {x.data(), stride, kCount, nullptr});
      for (int64_t count = 1; count <= kCount; ++count) {
        ThreadPool& pool = count % 3 == 0 ? three : count % 3 == 1 ? two : one;
        check_gathered_rows(
            rng, pool, scratch, w.get(), x, stride, kCount, singles, count);
      }
      check_gathered_rows(
          rng, two, scratch, w.get(), x, stride, kCount, singles, 300);
    }
  });
}

TEST_CASE("matmul: a large product has the bits of its rows, on any threads") {
  const WeightKind kinds[] = {
      {WeightType::affine, 4, 64, ScaleType::bf16}, {WeightType::bf16}};
  Rng rng(14);
  for (const auto& kind : kinds) {
    CAPTURE(kind.name());
    constexpr int64_t kIn = 512;
    constexpr int64_t kOut = 777;
    constexpr int64_t kCount = 150;
    const RandomMatrix w(rng, kind, kOut, kIn);
    const auto x = random_floats(rng, kCount * kIn);
    const auto singles =
        products_of_single_rows(w.get(), rows_of(x, kIn, kCount));
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      ThreadPool pool(threads);
      Scratch scratch;
      std::vector<float> y(singles.size());
      matmul(
          pool,
          scratch,
          w.get(),
          rows_of(x, kIn, kCount),
          rows_in(y, kOut, kCount));
      CHECK(same_bits(y.data(), singles.data(), kCount * kOut));
    }
  }
}

TEST_CASE("matmul: targets with a fused multiply-add give the same bits") {
  for (const auto& kind : some_weight_kinds()) {
    CAPTURE(kind.name());
    std::vector<float> first;
    for_each_target([&] {
      if (!has_fused_multiply_add()) {
        return;
      }
      Rng rng(15);
      const int64_t in = random_in(rng, kind, 1000);
      const RandomMatrix w(rng, kind, 50, in);
      const auto x = random_floats(rng, 3 * in);
      const auto y = products_of_single_rows(w.get(), rows_of(x, in, 3));
      if (first.empty()) {
        first = y;
      }
      CHECK(same_bits(y.data(), first.data(), 3 * 50));
    });
  }
}

TEST_CASE("matmul: no row of x, and no more scratch than it says") {
  Rng rng(16);
  for (const auto& kind : some_weight_kinds()) {
    CAPTURE(kind.name());
    const RandomMatrix w(rng, kind, 90, 256);
    for (const int64_t count : {0, 1, 5, 200}) {
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        Scratch scratch;
        const auto x = random_floats(rng, count * 256);
        std::vector<float> y(static_cast<size_t>(count * 90));
        matmul(
            pool,
            scratch,
            w.get(),
            rows_of(x, 256, count),
            rows_in(y, 90, count));
        CHECK(
            scratch.bytes() <=
            4 * matmul_scratch_floats(w.get(), count, threads) + 64);
      }
    }
  }
}

TEST_CASE("matmul: infinities and NaN stay in the row they came in") {
  ThreadPool pool(2);
  const float kInfinity = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    Rng rng(17);
    Scratch scratch;
    const WeightKind kind{WeightType::affine, 4, 64, ScaleType::bf16};
    const RandomMatrix w(rng, kind, 40, 128);
    auto x = random_floats(rng, 7 * 128);
    const auto clean = products_of_single_rows(w.get(), rows_of(x, 128, 7));
    x[3 * 128 + 5] = std::numeric_limits<float>::quiet_NaN();
    x[5 * 128 + 9] = kInfinity;
    std::vector<float> y(7 * 40);
    matmul(pool, scratch, w.get(), rows_of(x, 128, 7), rows_in(y, 40, 7));
    for (const int64_t r : {0, 1, 2, 4, 6}) {
      CHECK(same_bits(y.data() + r * 40, clean.data() + r * 40, 40));
    }
    CHECK(std::isnan(y[3 * 40]));
    CHECK(!std::isfinite(y[5 * 40]));
  });
}

TEST_CASE("dequantize_row: each weight is scale * q + bias, rounded once") {
  Rng rng(18);
  for (const auto& kind : all_weight_kinds()) {
    CAPTURE(kind.name());
    constexpr int64_t kIn = 256;
    const RandomMatrix w(rng, kind, 5, kIn);
    std::vector<float> row(kIn);
    std::vector<float> expected(5 * kIn);
    // The reference's rows are those of a product with unit vectors.
    std::vector<float> units(kIn * kIn);
    for (int64_t i = 0; i < kIn; ++i) {
      units[static_cast<size_t>(i * kIn + i)] = 1;
    }
    std::vector<float> columns(kIn * 5);
    reference_matmul(
        w.get(), rows_of(units, kIn, kIn), rows_in(columns, 5, kIn));
    for (int64_t r = 0; r < 5; ++r) {
      dequantize_row(w.get(), r, row.data());
      for (int64_t i = 0; i < kIn; ++i) {
        CAPTURE(i);
        REQUIRE(
            row[static_cast<size_t>(i)] ==
            columns[static_cast<size_t>(i * 5 + r)]);
      }
    }
  }
}

struct Expert {
  RandomMatrix gate;
  RandomMatrix up;
  RandomMatrix down;

  Expert(
      Rng& rng,
      const WeightKind& in_kind,
      const WeightKind& out_kind,
      int64_t hidden,
      int64_t inner)
      : gate(rng, in_kind, inner, hidden),
        up(rng, in_kind, inner, hidden),
        down(rng, out_kind, hidden, inner) {}
};

std::vector<float>
run_expert(ThreadPool& pool, const Expert& expert, const ConstRows& x) {
  Scratch scratch;
  const int64_t hidden = expert.down.get().out;
  std::vector<float> y(static_cast<size_t>(x.count * hidden));
  expert_mlp(
      pool,
      scratch,
      expert.gate.get(),
      expert.up.get(),
      expert.down.get(),
      x,
      rows_in(y, hidden, x.count));
  CHECK(
      scratch.bytes() <= 4 *
              expert_mlp_scratch_floats(
                             expert.gate.get(),
                             expert.down.get(),
                             x.count,
                             pool.threads()) +
          64);
  return y;
}

// The four steps one after the other.
std::vector<float>
run_steps(ThreadPool& pool, const Expert& expert, const ConstRows& x) {
  Scratch scratch;
  const int64_t inner = expert.gate.get().out;
  const int64_t hidden = expert.down.get().out;
  std::vector<float> gate(static_cast<size_t>(x.count * inner));
  std::vector<float> up(gate.size());
  std::vector<float> y(static_cast<size_t>(x.count * hidden));
  matmul(pool, scratch, expert.gate.get(), x, rows_in(gate, inner, x.count));
  matmul(pool, scratch, expert.up.get(), x, rows_in(up, inner, x.count));
  swiglu(pool, gate.data(), up.data(), x.count * inner, gate.data());
  matmul(
      pool,
      scratch,
      expert.down.get(),
      rows_of(gate, inner, x.count),
      rows_in(y, hidden, x.count));
  return y;
}

TEST_CASE("expert_mlp: the bits of its steps, for any rows and threads") {
  const uint64_t seed = 19;
  CAPTURE(seed);
  const WeightKind four{WeightType::affine, 4, 32, ScaleType::bf16};
  const WeightKind six{WeightType::affine, 6, 64, ScaleType::bf16};
  const WeightKind dense{WeightType::bf16};
  const WeightKind pairs[][2] = {{four, six}, {dense, dense}, {dense, four}};
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(seed);
    for (const auto& pair : pairs) {
      CAPTURE(pair[0].name());
      CAPTURE(pair[1].name());
      const Expert expert(rng, pair[0], pair[1], 96, 192);
      const auto x = random_floats(rng, 140 * 96);
      const auto all = run_expert(three, expert, rows_of(x, 96, 140));
      const auto steps = run_steps(one, expert, rows_of(x, 96, 140));
      CHECK(same_bits(all.data(), steps.data(), 140 * 96));
      for (int64_t r = 0; r < 140; r += 13) {
        const ConstRows row{x.data() + r * 96, 96, 1, nullptr};
        const auto single = run_expert(one, expert, row);
        CHECK(same_bits(single.data(), all.data() + r * 96, 96));
      }
    }
  });
}

TEST_CASE("expert_mlp: near the reference") {
  for_each_target([&] {
    Rng rng(20);
    ThreadPool pool(2);
    const WeightKind kind{WeightType::affine, 4, 64, ScaleType::bf16};
    const Expert expert(rng, kind, kind, 128, 192);
    const auto x = random_floats(rng, 9 * 128, -0.3, 0.3);
    const auto y = run_expert(pool, expert, rows_of(x, 128, 9));
    std::vector<float> expected(y.size());
    reference_expert_mlp(
        expert.gate.get(),
        expert.up.get(),
        expert.down.get(),
        rows_of(x, 128, 9),
        rows_in(expected, 128, 9));
    double error = 0;
    double norm = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      error += std::pow(static_cast<double>(y[i] - expected[i]), 2);
      norm += std::pow(static_cast<double>(expected[i]), 2);
    }
    CHECK(std::sqrt(error / norm) < 3e-6);
  });
}

} // namespace
} // namespace mlx_flash::kernels
