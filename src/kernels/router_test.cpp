#include "kernels/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Choice {
  std::vector<uint32_t> ids;
  std::vector<float> weights;
};

Choice
choose(const std::vector<float>& logits, int64_t k, bool normalize = false) {
  ThreadPool pool(1);
  Choice choice;
  choice.ids.resize(static_cast<size_t>(k));
  choice.weights.resize(static_cast<size_t>(k));
  route(
      pool,
      logits.data(),
      1,
      static_cast<int64_t>(logits.size()),
      k,
      normalize,
      choice.ids.data(),
      choice.weights.data());
  return choice;
}

using Ids = std::vector<uint32_t>;

TEST_CASE("router: the k most probable with their softmax, best first") {
  const uint64_t seed = 41;
  CAPTURE(seed);
  for_each_target([&] {
    Rng rng(seed);
    for (int round = 0; round < 200; ++round) {
      const auto experts = 1 + static_cast<int64_t>(rng.below(200));
      const auto k =
          1 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(experts)));
      const bool normalize = round % 2 == 0;
      const auto logits = random_floats(rng, experts, -9, 9);
      CAPTURE(experts);
      CAPTURE(k);

      std::vector<double> p;
      for (const float logit : logits) {
        p.push_back(std::exp(static_cast<double>(logit)));
      }
      const double all = std::accumulate(p.begin(), p.end(), 0.0);
      Ids order(static_cast<size_t>(experts));
      std::iota(order.begin(), order.end(), 0u);
      std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        return p[a] > p[b] || (p[a] == p[b] && a < b);
      });
      double chosen = 0;
      for (size_t j = 0; j < static_cast<size_t>(k); ++j) {
        chosen += p[order[j]];
      }

      const Choice choice = choose(logits, k, normalize);
      for (size_t j = 0; j < static_cast<size_t>(k); ++j) {
        REQUIRE(choice.ids[j] == order[j]);
        const double weight = p[order[j]] / (normalize ? chosen : all);
        REQUIRE(
            std::abs(static_cast<double>(choice.weights[j]) - weight) <=
            2e-6 * weight);
      }
    }
  });
}

TEST_CASE("router: of equal probabilities the lower id comes first") {
  for_each_target([&] {
    CHECK(choose({1, 2, 2, 1, 2}, 4).ids == Ids{1, 2, 4, 0});
    CHECK(choose(std::vector<float>(64, 3.0f), 5).ids == Ids{0, 1, 2, 3, 4});
    // Different logits, but equal once they are probabilities in f32.
    const float above = std::nextafter(0.01f, 1.0f);
    CHECK(choose({20, 0.01f, above, above}, 3).ids[0] == 0);
    std::vector<float> late(40, 0.0f);
    late[37] = late[39] = 1;
    CHECK(choose(late, 3).ids == Ids{37, 39, 0});
  });
}

TEST_CASE("router: NaN comes last and ids are always valid") {
  for_each_target([&] {
    const Choice some = choose({1, kNan, 3, kNan, 2}, 3);
    CHECK(some.ids == Ids{2, 4, 0});
    CHECK(
        static_cast<double>(some.weights[0]) ==
        doctest::Approx(0.66524).epsilon(1e-4));
    const Choice all = choose(std::vector<float>(20, kNan), 4, true);
    CHECK(all.ids == Ids{0, 1, 2, 3});
    CHECK(choose({kNan, kNan, 5}, 3).ids == Ids{2, 0, 1});
    CHECK(choose({kNan, 5, kNan}, 1).weights[0] == 1.0f);
  });
}

TEST_CASE("router: infinite logits are ranked like numbers") {
  for_each_target([&] {
    const Choice one = choose({1, kInfinity, 2}, 2);
    CHECK(one.ids == Ids{1, 0});
    CHECK(one.weights == std::vector<float>{1, 0});
    const Choice none = choose(std::vector<float>(4, -kInfinity), 2, true);
    CHECK(none.ids == Ids{0, 1});
    CHECK(none.weights == std::vector<float>{0.5f, 0.5f});
    CHECK(choose({-kInfinity, -3, 200, 100}, 4).ids == Ids{2, 3, 0, 1});
  });
}

TEST_CASE("router: ids are distinct, whatever the bits of the logits") {
  const uint64_t seed = 42;
  CAPTURE(seed);
  for_each_target([&] {
    Rng rng(seed);
    for (int round = 0; round < 300; ++round) {
      std::vector<float> logits(1 + rng.below(70));
      for (auto& logit : logits) {
        logit = std::bit_cast<float>(static_cast<uint32_t>(rng.next()));
      }
      const auto k = 1 + static_cast<int64_t>(rng.below(logits.size()));
      const Choice choice = choose(logits, k, round % 2 == 0);
      const std::set<uint32_t> distinct(choice.ids.begin(), choice.ids.end());
      REQUIRE(distinct.size() == static_cast<size_t>(k));
      REQUIRE(*distinct.rbegin() < logits.size());
    }
  });
}

TEST_CASE("router: a row's bits do not depend on the other rows or threads") {
  for_each_target([&] {
    Rng rng(43);
    constexpr int64_t kRows = 700;
    constexpr int64_t kExperts = 101;
    constexpr int64_t kK = 8;
    const auto logits = random_floats(rng, kRows * kExperts, -5, 5);
    ThreadPool pool(3);
    Ids ids(kRows * kK);
    std::vector<float> weights(kRows * kK);
    route(
        pool,
        logits.data(),
        kRows,
        kExperts,
        kK,
        true,
        ids.data(),
        weights.data());
    for (int64_t r = 0; r < kRows; ++r) {
      const auto* row = logits.data() + r * kExperts;
      const Choice own = choose({row, row + kExperts}, kK, true);
      REQUIRE(std::equal(own.ids.begin(), own.ids.end(), ids.data() + r * kK));
      REQUIRE(same_bits(own.weights.data(), weights.data() + r * kK, kK));
    }
  });
}

} // namespace
} // namespace mlx_flash::kernels
