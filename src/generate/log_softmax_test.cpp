#include "generate/log_softmax.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/rng.h"

using namespace mlx_flash;

namespace {
constexpr float kInfinity = std::numeric_limits<float>::infinity();
} // namespace

TEST_CASE("log softmax: known values") {
  const std::vector<float> logits = {
      std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  const auto row = LogSoftmax::of(logits);
  REQUIRE(row);
  CHECK(row->logprob(0) == doctest::Approx(std::log(0.125)).epsilon(1e-7));
  CHECK(row->logprob(1) == doctest::Approx(std::log(0.25)).epsilon(1e-7));
  CHECK(row->logprob(2) == doctest::Approx(std::log(0.625)).epsilon(1e-7));
}

TEST_CASE("log softmax: large logits neither overflow nor lose precision") {
  for (const float shift : {0.0f, 3e38f, -3e38f, 1e4f}) {
    CAPTURE(shift);
    const std::vector<float> logits(8, shift);
    const auto row = LogSoftmax::of(logits);
    REQUIRE(row);
    // A logit of 3e38 has no digits left for a difference of 2.
    if (std::abs(shift) < 1e5f) {
      CHECK(row->logprob(3) == doctest::Approx(-std::log(8)).epsilon(1e-9));
    }
    CHECK(std::isfinite(row->logprob(3)));
  }
  const std::vector<float> apart = {1000.0f, 0.0f, -kInfinity};
  const auto row = LogSoftmax::of(apart);
  REQUIRE(row);
  CHECK(row->logprob(0) == 0);
  CHECK(row->logprob(1) == -1000);
  CHECK(row->logprob(2) == -std::numeric_limits<double>::infinity());
}

TEST_CASE("log softmax: probabilities add up to one") {
  Rng rng(11);
  std::vector<float> logits(5003);
  for (float& logit : logits) {
    logit = static_cast<float>(rng.uniform() * 40 - 20);
  }
  const auto row = LogSoftmax::of(logits);
  REQUIRE(row);
  double total = 0;
  for (TokenId id = 0; id < logits.size(); ++id) {
    total += std::exp(row->logprob(id));
  }
  CHECK(total == doctest::Approx(1).epsilon(1e-12));
}

TEST_CASE("log softmax: a row without probabilities is refused") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(LogSoftmax::of(std::vector<float>{}));
  CHECK_FALSE(LogSoftmax::of(std::vector<float>{1, nan, 2}));
  CHECK_FALSE(LogSoftmax::of(std::vector<float>{1, kInfinity}));
  CHECK_FALSE(LogSoftmax::of(std::vector<float>{-kInfinity, -kInfinity}));
}

TEST_CASE("log softmax: the best are those of a full sort") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    std::vector<float> logits(1 + rng.below(200));
    for (float& logit : logits) {
      logit = static_cast<float>(rng.below(20)); // with ties
    }
    std::vector<TokenId> sorted(logits.size());
    std::iota(sorted.begin(), sorted.end(), 0);
    std::stable_sort(sorted.begin(), sorted.end(), [&](TokenId a, TokenId b) {
      return logits[a] > logits[b];
    });
    const auto row = LogSoftmax::of(logits);
    REQUIRE(row);
    const size_t count = rng.below(220);
    const auto top = row->top(count);
    REQUIRE(top.size() == std::min(count, logits.size()));
    for (size_t i = 0; i < top.size(); ++i) {
      CHECK(top[i].id == sorted[i]);
      CHECK(top[i].logprob == row->logprob(top[i].id));
    }
  }
}
