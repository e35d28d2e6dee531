// Goal: for every weight type and SIMD target, products are near the
// double-precision reference, and the bits of a row's product depend on that
// row alone. Method: random shapes and weights at odd addresses, seeds printed.
#include "kernels/matmul.h"

#include <cmath>
#include <limits>
#include <memory>

#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

// Of the magnitudes that are added up. Each block of 32 products is a chain of
// roundings, and so is the sum of blocks.
constexpr double kTolerance = 1.5e-6;

constexpr Precision kPrecisions[] = {Precision::f32, Precision::int8};

ConstRows rows_of(const std::vector<float>& x, int64_t n, int64_t count) {
  return {x.data(), n, count, nullptr};
}

MutableRows rows_in(std::vector<float>& x, int64_t n, int64_t count) {
  return {x.data(), n, count, nullptr};
}

// y = x W^T
std::vector<float> products(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const Matrix& w,
    const ConstRows& x) {
  std::vector<float> y(static_cast<size_t>(x.count * w.out));
  matmul(pool, scratch, precision, w, x, rows_in(y, w.out, x.count));
  return y;
}

// The same row by row, on one thread.
std::vector<float> products_of_single_rows(
    Precision precision,
    const Matrix& w,
    const ConstRows& x) {
  ThreadPool pool(1);
  Scratch scratch;
  std::vector<float> y(static_cast<size_t>(x.count * w.out));
  for (int64_t r = 0; r < x.count; ++r) {
    const ConstRows from{x[r], 0, 1, nullptr};
    const MutableRows to{y.data() + r * w.out, 0, 1, nullptr};
    matmul(pool, scratch, precision, w, from, to);
  }
  return y;
}

int64_t random_in(Rng& rng, const WeightKind& kind, int64_t most) {
  const int64_t unit = std::max(kind.group_size, 1);
  return unit *
      (1 +
       static_cast<int64_t>(rng.below(
           static_cast<uint64_t>(std::max(most / unit, int64_t{1})))));
}

void check_near_reference(
    Precision precision,
    const RandomMatrix& w,
    const ConstRows& x,
    const std::vector<float>& y) {
  const int64_t out = w.get().out;
  std::vector<float> expected(y.size());
  reference_matmul(precision, w.get(), x, rows_in(expected, out, x.count));
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
        for (const Precision precision : kPrecisions) {
          CAPTURE(static_cast<int>(precision));
          const auto y = products(
              pool, scratch, precision, w.get(), rows_of(x, in, count));
          check_near_reference(precision, w, rows_of(x, in, count), y);
        }
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
        for (const Precision precision : kPrecisions) {
          CAPTURE(static_cast<int>(precision));
          const auto y = products(
              pool, scratch, precision, w.get(), rows_of(x, c.in, count));
          check_near_reference(precision, w, rows_of(x, c.in, count), y);
        }
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
    Precision precision,
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
      precision,
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
      for (const Precision precision : kPrecisions) {
        CAPTURE(static_cast<int>(precision));
        const auto singles = products_of_single_rows(
            precision, w.get(), {x.data(), stride, kCount, nullptr});
        const auto check = [&](ThreadPool& pool, int64_t count) {
          check_gathered_rows(
              rng,
              pool,
              scratch,
              precision,
              w.get(),
              x,
              stride,
              kCount,
              singles,
              count);
        };
        for (int64_t count = 1; count <= kCount; ++count) {
          check(count % 3 == 0 ? three : count % 3 == 1 ? two : one, count);
        }
        check(two, 300);
      }
    }
  });
}

// One, few and many rows take different ways through the weights, and long rows
// are several slices, panels and units of scales.
TEST_CASE("matmul: long rows have the same bits in any number") {
  const uint64_t seed = 24;
  CAPTURE(seed);
  ThreadPool pool(2);
  std::vector<WeightKind> kinds = some_weight_kinds();
  kinds.push_back({WeightType::affine, 4, 128, ScaleType::f16});
  kinds.push_back({WeightType::affine, 8, 32, ScaleType::f16});
  kinds.push_back({WeightType::affine, 8, 128, ScaleType::f32});
  for_each_target([&] {
    Rng rng(seed);
    Scratch scratch;
    for (const WeightKind& kind : kinds) {
      CAPTURE(kind.name());
      const bool dense = kind.group_size == 0;
      for (const int64_t in : {1024, dense ? 2048 + 21 : 2048 + 128}) {
        CAPTURE(in);
        constexpr int64_t kOut = 37;
        constexpr int64_t kMost = 40;
        const RandomMatrix w(rng, kind, kOut, in);
        const auto x = random_floats(rng, kMost * in);
        for (const Precision precision : kPrecisions) {
          CAPTURE(static_cast<int>(precision));
          const auto singles = products_of_single_rows(
              precision, w.get(), rows_of(x, in, kMost));
          for (const int64_t count : {2, 3, 7, 36, 40}) {
            CAPTURE(count);
            const auto y = products(
                pool, scratch, precision, w.get(), rows_of(x, in, count));
            CHECK(same_bits(y.data(), singles.data(), count * kOut));
          }
          const std::vector<float> first(
              singles.begin(), singles.begin() + kOut);
          check_near_reference(precision, w, rows_of(x, in, 1), first);
        }
      }
    }
  });
}

TEST_CASE("matmul: a large product has the bits of its rows, on any threads") {
  struct Case {
    WeightKind kind;
    int64_t in;
  };
  // Dense ones of more than one slice.
  const Case cases[] = {
      {{WeightType::affine, 4, 64, ScaleType::bf16}, 512},
      {{WeightType::bf16}, 2100},
      {{WeightType::f32}, 1025}};
  Rng rng(14);
  for (const auto& [kind, kIn] : cases) {
    CAPTURE(kind.name());
    constexpr int64_t kOut = 777;
    constexpr int64_t kCount = 150;
    const RandomMatrix w(rng, kind, kOut, kIn);
    const auto x = random_floats(rng, kCount * kIn);
    for (const Precision precision : kPrecisions) {
      const auto singles =
          products_of_single_rows(precision, w.get(), rows_of(x, kIn, kCount));
      for (const int threads : {1, 2, 3}) {
        CAPTURE(threads);
        ThreadPool pool(threads);
        Scratch scratch;
        const auto y = products(
            pool, scratch, precision, w.get(), rows_of(x, kIn, kCount));
        CHECK(same_bits(y.data(), singles.data(), kCount * kOut));
      }
    }
  }
}

TEST_CASE("matmul: targets with a fused multiply-add give the same bits") {
  const auto check = [](const WeightKind& kind, Precision precision) {
    std::vector<float> first;
    for_each_target([&] {
      if (!has_fused_multiply_add()) {
        return;
      }
      Rng rng(15);
      const int64_t in = random_in(rng, kind, 2500);
      const RandomMatrix w(rng, kind, 50, in);
      const auto x = random_floats(rng, 3 * in);
      const auto y =
          products_of_single_rows(precision, w.get(), rows_of(x, in, 3));
      if (first.empty()) {
        first = y;
      }
      CHECK(same_bits(y.data(), first.data(), 3 * 50));
    });
  };
  for (const auto& kind : some_weight_kinds()) {
    CAPTURE(kind.name());
    check(kind, Precision::f32);
    check(kind, Precision::int8);
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
        for (const Precision precision : kPrecisions) {
          const auto y = products(
              pool, scratch, precision, w.get(), rows_of(x, 256, count));
          CHECK(
              scratch.bytes() <=
              4 * matmul_scratch_floats(w.get(), precision, count, threads) +
                  64);
        }
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
    const auto clean = random_floats(rng, 7 * 128);
    auto x = clean;
    x[3 * 128 + 5] = std::numeric_limits<float>::quiet_NaN();
    x[5 * 128 + 9] = kInfinity;
    for (const Precision precision : kPrecisions) {
      CAPTURE(static_cast<int>(precision));
      const auto expected =
          products_of_single_rows(precision, w.get(), rows_of(clean, 128, 7));
      const auto y =
          products(pool, scratch, precision, w.get(), rows_of(x, 128, 7));
      for (const int64_t r : {0, 1, 2, 4, 6}) {
        CHECK(same_bits(y.data() + r * 40, expected.data() + r * 40, 40));
      }
      CHECK(std::isnan(y[3 * 40]));
      CHECK(!std::isfinite(y[5 * 40]));
    }
  });
}

TEST_CASE("matmuls: each product has the bits that it has alone") {
  ThreadPool pool(2);
  Rng rng(22);
  Scratch scratch;
  constexpr int64_t kIn = 256;
  std::vector<std::unique_ptr<RandomMatrix>> ws;
  // More than one region takes, of all forms.
  for (const auto& kind : some_weight_kinds()) {
    ws.push_back(std::make_unique<RandomMatrix>(rng, kind, 70, kIn));
  }
  for (const int64_t count : {1, 5}) {
    const auto x = random_floats(rng, count * kIn);
    for (const Precision precision : kPrecisions) {
      std::vector<std::vector<float>> ys(
          ws.size(), std::vector<float>(static_cast<size_t>(count * 70)));
      std::vector<Product> products;
      for (size_t i = 0; i < ws.size(); ++i) {
        products.push_back({ws[i]->get(), rows_in(ys[i], 70, count)});
      }
      matmuls(pool, scratch, precision, products, rows_of(x, kIn, count));
      for (size_t i = 0; i < ws.size(); ++i) {
        const auto alone = products_of_single_rows(
            precision, ws[i]->get(), rows_of(x, kIn, count));
        CHECK(same_bits(ys[i].data(), alone.data(), count * 70));
      }
    }
  }
}

// One row of mxfp4 in which each group has every code twice, in order.
class AllCodes {
 public:
  explicit AllCodes(const std::vector<uint8_t>& scales)
      : w_(rng_, kMxfp4Kind, 1, 32 * static_cast<int64_t>(scales.size())) {
    for (int64_t i = 0; i < row_bytes(get()); ++i) {
      const int64_t even = 2 * i % 16;
      w_.weight()[i] = static_cast<std::byte>(even | (even + 1) << 4);
    }
    std::memcpy(w_.scales(), scales.data(), scales.size());
  }

  const Matrix& get() const {
    return w_.get();
  }

 private:
  Rng rng_{25};
  RandomMatrix w_;
};

TEST_CASE("matmul: each code of mxfp4 is the specification's number") {
  constexpr float kNumbers[16] = {
      0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
  ThreadPool pool(1);
  const AllCodes w({127, 130});
  std::vector<float> row(64);
  dequantize_row(w.get(), 0, row.data());
  for_each_target([&] {
    Scratch scratch;
    for (const int64_t count : {1, 64}) {
      // Unit vectors, all of them or one alone; integers take them exactly.
      for (int64_t i = 0; i < 64; i += count) {
        std::vector<float> x(static_cast<size_t>(count * 64));
        for (int64_t r = 0; r < count; ++r) {
          x[static_cast<size_t>(r * 64 + i + r)] = 1;
        }
        for (const Precision precision : kPrecisions) {
          const auto y = products(
              pool, scratch, precision, w.get(), rows_of(x, 64, count));
          for (int64_t r = 0; r < count; ++r) {
            const int64_t c = i + r;
            const float number = kNumbers[c % 16] * (c < 32 ? 1.0f : 8.0f);
            CAPTURE(c);
            REQUIRE(row[static_cast<size_t>(c)] == number);
            REQUIRE(y[static_cast<size_t>(r)] == number);
          }
        }
      }
    }
  });
}

TEST_CASE("matmul: the least and the largest scales of mxfp4 are exact") {
  // 2^-127 .. 2^127; products with 2^100 and 2^-100 are normal numbers.
  for (const uint8_t scale : {0, 1, 2, 253, 254}) {
    CAPTURE(int{scale});
    const AllCodes w({scale});
    const float size = scale < 100 ? 0x1.0p100f : 0x1.0p-100f;
    std::vector<float> x(32);
    x[5] = size; // 3
    x[14] = size; // -4
    const float expected = std::ldexp(size, scale - 127) * -1;
    ThreadPool pool(1);
    for_each_target([&] {
      Scratch scratch;
      for (const Precision precision : kPrecisions) {
        float y = 0;
        matmul(
            pool,
            scratch,
            precision,
            w.get(),
            rows_of(x, 32, 1),
            {&y, 1, 1, nullptr});
        CHECK(y == expected);
      }
    });
    std::vector<float> row(32);
    dequantize_row(w.get(), 0, row.data());
    CHECK(row[1] == std::ldexp(0.5f, scale - 127));
    CHECK(row[10] == std::ldexp(-1.0f, scale - 127));
  }
}

TEST_CASE("matmul: a scale of 255 makes its rows NaN and no others") {
  ThreadPool pool(2);
  for_each_target([&] {
    Rng rng(26);
    Scratch scratch;
    RandomMatrix w(rng, kMxfp4Kind, 40, 96);
    w.scales()[7 * 3 + 1] = std::byte{255};
    for (const int64_t count : {1, 9}) {
      const auto x = random_floats(rng, count * 96);
      for (const Precision precision : kPrecisions) {
        const auto y =
            products(pool, scratch, precision, w.get(), rows_of(x, 96, count));
        for (size_t i = 0; i < y.size(); ++i) {
          CAPTURE(i);
          CHECK(std::isnan(y[i]) == (i % 40 == 7));
        }
      }
    }
  });
}

// Codes of the largest magnitude with integers of the largest: what 16-bit
// sums hold least.
TEST_CASE("matmul: the largest sums of integers do not overflow") {
  ThreadPool pool(1);
  const WeightKind kinds[] = {
      kMxfp4Kind,
      {WeightType::affine, 4, 32, ScaleType::f32},
      {WeightType::affine, 5, 32, ScaleType::f32},
      {WeightType::affine, 8, 32, ScaleType::f32}};
  for_each_target([&] {
    Rng rng(27);
    Scratch scratch;
    for (const auto& kind : kinds) {
      CAPTURE(kind.name());
      for (const int fill : {0xFF, 0x77}) {
        RandomMatrix w(rng, kind, 33, 128);
        std::memset(
            w.weight(), fill, static_cast<size_t>(33 * row_bytes(w.get())));
        for (const float value : {1.0f, -1.0f}) {
          for (const int64_t count : {1, 13}) {
            const std::vector<float> x(static_cast<size_t>(count * 128), value);
            const auto y = products(
                pool,
                scratch,
                Precision::int8,
                w.get(),
                rows_of(x, 128, count));
            check_near_reference(Precision::int8, w, rows_of(x, 128, count), y);
          }
        }
      }
    }
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
        Precision::f32,
        w.get(),
        rows_of(units, kIn, kIn),
        rows_in(columns, 5, kIn));
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

} // namespace
} // namespace mlx_flash::kernels
