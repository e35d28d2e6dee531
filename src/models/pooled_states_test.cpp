#include "models/pooled_states.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

using namespace mlx_flash;

namespace {

PooledStates pooled(
    Pooling pooling,
    bool normalized,
    const std::vector<std::vector<float>>& states) {
  EmbeddingForm form;
  form.pooling = pooling;
  form.normalized = normalized;
  PooledStates result(form);
  for (const auto& each : states) {
    result.add(each);
  }
  return result;
}

} // namespace

TEST_CASE("pooled states: a mean is of all, one alone stays as it is") {
  CHECK(
      pooled(Pooling::mean, false, {{1, 2}, {3, -2}, {5, 6}}).result() ==
      std::vector<float>{3, 2});
  const std::vector<float> odd{0.1f, -1e-30f, 3.3e38f};
  CHECK(pooled(Pooling::last, false, {odd}).result() == odd);
}

TEST_CASE("pooled states: normalised to length 1") {
  CHECK(
      pooled(Pooling::last, true, {{3, 4}}).result() ==
      std::vector<float>{0.6f, 0.8f});
  CHECK(
      pooled(Pooling::mean, true, {{3, 0}, {0, 4}}).result() ==
      std::vector<float>{0.6f, 0.8f});
  CHECK(
      pooled(Pooling::last, true, {{0, 0}}).result() ==
      std::vector<float>{0, 0});
}

TEST_CASE("pooled states: what is no number is an error") {
  for (const float wrong :
       {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const auto states = pooled(Pooling::mean, true, {{1, wrong}, {1, 1}});
    CHECK_THROWS_WITH_AS(states.result(), doctest::Contains("weights"), Error);
  }
}
