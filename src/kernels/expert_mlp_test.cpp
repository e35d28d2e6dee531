// Goal: experts that are computed together have the bits of their steps, one
// after the other, row by row.
#include "kernels/expert_mlp.h"

#include <cmath>
#include <memory>

#include "kernels/product.h"
#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

constexpr Precision kPrecisions[] = {Precision::f32, Precision::int8};

struct RandomExpert {
  RandomMatrix gate;
  RandomMatrix up;
  RandomMatrix down;

  RandomExpert(
      Rng& rng,
      const WeightKind& gate_kind,
      const WeightKind& up_kind,
      const WeightKind& down_kind,
      int64_t hidden,
      int64_t inner)
      : gate(rng, gate_kind, inner, hidden),
        up(rng, up_kind, inner, hidden),
        down(rng, down_kind, hidden, inner) {}

  Expert get() const {
    return {gate.get(), up.get(), down.get()};
  }
};

ConstRows rows_of(const std::vector<float>& x, int64_t n, int64_t count) {
  return {x.data(), n, count, nullptr};
}

// The four steps one after the other.
std::vector<float> run_steps(
    ThreadPool& pool,
    Precision precision,
    const Expert& expert,
    const ConstRows& x) {
  Scratch scratch;
  const int64_t inner = expert.gate.out;
  const int64_t hidden = expert.down.out;
  std::vector<float> gate(static_cast<size_t>(x.count * inner));
  std::vector<float> up(gate.size());
  std::vector<float> y(static_cast<size_t>(x.count * hidden));
  const auto multiply = [&](const Matrix& w, const ConstRows& from, auto& to) {
    matmul(
        pool,
        scratch,
        precision,
        w,
        from,
        {to.data(), w.out, x.count, nullptr});
  };
  multiply(expert.gate, x, gate);
  multiply(expert.up, x, up);
  gate_products(up.data(), x.count * inner, gate.data());
  multiply(expert.down, rows_of(gate, inner, x.count), y);
  return y;
}

std::vector<float> run_mlp(
    ThreadPool& pool,
    Precision precision,
    const Expert& expert,
    const ConstRows& x) {
  Scratch scratch;
  const int64_t hidden = expert.down.out;
  std::vector<float> y(static_cast<size_t>(x.count * hidden));
  swiglu_mlp(
      pool,
      scratch,
      precision,
      expert,
      x,
      {y.data(), hidden, x.count, nullptr});
  CHECK(
      scratch.bytes() <= 4 *
              swiglu_mlp_scratch_floats(
                             expert, precision, x.count, pool.threads()) +
          64);
  return y;
}

TEST_CASE("swiglu_mlp: the bits of its steps, for any rows and threads") {
  const uint64_t seed = 19;
  CAPTURE(seed);
  const WeightKind four{WeightType::affine, 4, 32, ScaleType::bf16};
  const WeightKind six{WeightType::affine, 6, 64, ScaleType::bf16};
  const WeightKind dense{WeightType::bf16};
  const WeightKind kinds[][3] = {
      {four, four, six},
      {dense, dense, dense},
      {dense, four, four},
      {kMxfp4Kind, kMxfp4Kind, kMxfp4Kind},
      {kMxfp4Kind, four, dense}};
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(seed);
    for (const auto& [gate, up, down] : kinds) {
      CAPTURE(gate.name());
      CAPTURE(down.name());
      const RandomExpert random(rng, gate, up, down, 96, 192);
      const Expert expert = random.get();
      const auto x = random_floats(rng, 140 * 96);
      for (const Precision precision : kPrecisions) {
        const auto all = run_mlp(three, precision, expert, rows_of(x, 96, 140));
        const auto steps =
            run_steps(one, precision, expert, rows_of(x, 96, 140));
        CHECK(same_bits(all.data(), steps.data(), 140 * 96));
        for (int64_t r = 0; r < 140; r += 13) {
          const ConstRows row{x.data() + r * 96, 96, 1, nullptr};
          const auto single = run_mlp(one, precision, expert, row);
          CHECK(same_bits(single.data(), all.data() + r * 96, 96));
        }
      }
    }
  });
}

// Some experts with rows of their own, as a router would hand them out.
struct Layer {
  static constexpr int64_t kHidden = 96;
  static constexpr int64_t kInner = 64;
  std::vector<std::unique_ptr<RandomExpert>> experts;
  std::vector<std::vector<uint32_t>> rows; // of each expert
  std::vector<float> x;

  Layer(Rng& rng, int count, int most_rows) {
    const WeightKind kind{WeightType::affine, 4, 32, ScaleType::bf16};
    x = random_floats(rng, most_rows * kHidden);
    for (int e = 0; e < count; ++e) {
      experts.push_back(std::make_unique<RandomExpert>(
          rng, kind, kind, kind, kHidden, kInner));
      rows.emplace_back();
      for (int r = 0; r < most_rows; ++r) {
        if (rng.below(3) == 0) {
          rows.back().push_back(static_cast<uint32_t>(r));
        }
      }
    }
  }

  std::vector<std::vector<float>>
  run(ThreadPool& pool, Precision precision, size_t first, size_t last) const {
    Scratch scratch;
    std::vector<float> memory(
        expert_inputs_floats(experts[0]->get(), precision, row_count()) + 16);
    const auto inputs = prepare_expert_inputs(
        pool,
        experts[0]->get(),
        precision,
        rows_of(x, kHidden, row_count()),
        memory.data());
    std::vector<std::vector<float>> ys;
    std::vector<ExpertTask> tasks;
    int64_t pairs = 0;
    for (size_t e = first; e < last; ++e) {
      ys.emplace_back(rows[e].size() * kHidden);
    }
    for (size_t e = first; e < last; ++e) {
      const auto n = static_cast<int64_t>(rows[e].size());
      pairs += n;
      tasks.push_back(
          {experts[e]->get(),
           rows[e].data(),
           {ys[e - first].data(), kHidden, n, nullptr}});
    }
    expert_mlps(pool, scratch, precision, inputs, tasks);
    CHECK(
        scratch.bytes() <= 4 *
                expert_mlps_scratch_floats(
                               experts[0]->get(),
                               precision,
                               row_count(),
                               pairs,
                               pool.threads()) +
            64);
    return ys;
  }

  int64_t row_count() const {
    return static_cast<int64_t>(x.size()) / kHidden;
  }
};

TEST_CASE("expert_mlps: experts together have the bits that each has alone") {
  const uint64_t seed = 23;
  CAPTURE(seed);
  ThreadPool one(1);
  ThreadPool three(3);
  for_each_target([&] {
    Rng rng(seed);
    for (const int most_rows : {1, 9, 200}) {
      const Layer layer(rng, 11, most_rows);
      for (const Precision precision : kPrecisions) {
        const auto all = layer.run(three, precision, 0, 11);
        for (size_t e = 0; e < 11; ++e) {
          const auto alone = layer.run(one, precision, e, e + 1);
          CHECK(all[e] == alone[0]);
        }
      }
    }
  });
}

TEST_CASE("swiglu_mlp: near the reference") {
  for_each_target([&] {
    Rng rng(20);
    ThreadPool pool(2);
    const WeightKind kind{WeightType::affine, 4, 64, ScaleType::bf16};
    const RandomExpert random(rng, kind, kind, kind, 128, 192);
    const auto x = random_floats(rng, 9 * 128, -0.3, 0.3);
    for (const Precision precision : kPrecisions) {
      const auto y = run_mlp(pool, precision, random.get(), rows_of(x, 128, 9));
      std::vector<float> expected(y.size());
      reference_expert_mlp(
          precision,
          random.get(),
          rows_of(x, 128, 9),
          {expected.data(), 128, 9, nullptr});
      double error = 0;
      double norm = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        error += std::pow(static_cast<double>(y[i] - expected[i]), 2);
        norm += std::pow(static_cast<double>(expected[i]), 2);
      }
      // What lies between the products may be rounded to a neighbouring
      // integer where it is a hair's breadth from a half.
      const double most = precision == Precision::f32 ? 3e-6 : 1e-3;
      CHECK(std::sqrt(error / norm) < most);
    }
  });
}

} // namespace
} // namespace mlx_flash::kernels
