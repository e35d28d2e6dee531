// The sampler against a naive one that sorts everything: which tokens can be
// picked at all, and how often each is.
#include "generate/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <numeric>

#include "mlx_flash/error.h"

namespace {
std::atomic<size_t> allocations = 0;
} // namespace

// Not inlined, so that compilers do not take them for a mismatched pair.
[[gnu::noinline]] void* operator new(
    size_t size,
    const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void* operator new(size_t size) {
  if (void* memory = operator new(size, std::nothrow)) {
    return memory;
  }
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

using namespace mlx_flash;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::optional<TokenId> sample(
    Sampler& sampler,
    std::vector<float> logits,
    const std::vector<uint32_t>& allowed = {}) {
  return sampler.sample(logits, allowed);
}

std::vector<float> logs(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) {
    logits.push_back(static_cast<float>(std::log(p)));
  }
  return logits;
}

// The probability of each token, by sorting everything.
std::map<TokenId, double> naive_distribution(
    const std::vector<float>& logits,
    const SamplingOptions& options) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return logits[a] > logits[b];
  });
  if (options.top_k > 0) {
    order.resize(std::min<size_t>(order.size(), options.top_k));
  }
  const auto mass = [&](TokenId id) {
    return std::exp(
        (static_cast<double>(logits[id]) - logits[order[0]]) /
        options.temperature);
  };
  const auto total = [&] {
    double sum = 0;
    for (const TokenId id : order) {
      sum += mass(id);
    }
    return sum;
  };
  const double needed = total() * options.top_p;
  double sum = 0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || sum < needed)) {
    sum += mass(order[kept++]);
  }
  order.resize(kept);
  std::erase_if(order, [&](TokenId id) { return mass(id) < options.min_p; });
  std::map<TokenId, double> result;
  for (const TokenId id : order) {
    result[id] = mass(id) / total();
  }
  return result;
}

std::map<TokenId, int> draw_many(
    const std::vector<float>& logits,
    const SamplingOptions& options,
    int draws) {
  Sampler sampler(options);
  std::map<TokenId, int> counts;
  std::vector<float> scratch;
  for (int i = 0; i < draws; ++i) {
    scratch = logits;
    ++counts[sampler.sample(scratch).value()];
  }
  return counts;
}

// Within five standard deviations of a binomial count, and never a token
// that has no probability.
void check_counts(
    const std::map<TokenId, int>& counts,
    const std::map<TokenId, double>& expected,
    int draws) {
  for (const auto& [id, count] : counts) {
    CAPTURE(id);
    REQUIRE(expected.contains(id));
  }
  for (const auto& [id, p] : expected) {
    CAPTURE(id);
    CAPTURE(p);
    const double mean = p * draws;
    const double deviation = std::sqrt(mean * (1 - p));
    const auto it = counts.find(id);
    const int count = it == counts.end() ? 0 : it->second;
    REQUIRE(std::abs(count - mean) <= 5 * deviation + 1);
  }
}

} // namespace

TEST_CASE("sampler: temperature 0 picks the best, the lower id on ties") {
  Sampler sampler(SamplingOptions{});
  CHECK(sample(sampler, {1, 3, 2}) == 1);
  CHECK(sample(sampler, {1, 3, 2, 3, 3}) == 1);
  CHECK(sample(sampler, {-kInfinity, -5, -kInfinity}) == 1);
  CHECK(sample(sampler, {1, kInfinity, 2}) == 1);
  std::vector<float> many(1000, 0);
  many[777] = many[900] = 1;
  CHECK(sample(sampler, many) == 777);
}

TEST_CASE("sampler: a NaN is never picked, and nothing is no token") {
  for (const float temperature : {0.0f, 1.0f}) {
    CAPTURE(temperature);
    Sampler sampler({.temperature = temperature});
    for (int i = 0; i < 100; ++i) {
      CHECK(sample(sampler, {kNan, 1, kNan, -kInfinity}) == 1);
      CHECK(sample(sampler, {1, kNan, kInfinity}) == 2);
    }
    CHECK_FALSE(sample(sampler, {kNan, kNan}));
    CHECK_FALSE(sample(sampler, {kNan, -kInfinity}));
    CHECK_FALSE(sample(sampler, {}));
    CHECK_FALSE(sample(sampler, {1, 2}, {0}));
  }
}

TEST_CASE("sampler: the mask decides first") {
  const std::vector<float> logits(100, 1);
  std::vector<uint32_t> allowed(4);
  allowed[2] = 1u << 3;
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature, .top_k = 5, .top_p = 0.5f});
    for (int i = 0; i < 50; ++i) {
      CHECK(sample(sampler, logits, allowed) == 67);
    }
  }
  // Tokens past the mask's end are not allowed.
  Sampler sampler(SamplingOptions{});
  CHECK(sample(sampler, {0, 1, 2}, {0b011}) == 1);
  CHECK_FALSE(sample(sampler, std::vector<float>(40, 1), {0}));
}

TEST_CASE("sampler: a seed gives the same tokens everywhere") {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(i * 37 % 64) / 16;
  }
  const auto draw = [&](uint64_t seed) {
    Sampler sampler({.temperature = 0.8f, .top_p = 0.9f, .seed = seed});
    std::vector<TokenId> tokens;
    for (int i = 0; i < 12; ++i) {
      tokens.push_back(sample(sampler, logits).value());
    }
    return tokens;
  };
  CHECK(draw(1) == draw(1));
  CHECK(draw(1) != draw(2));
  // Recorded once; a change of these numbers changes what a seed means.
  CHECK(
      draw(42) ==
      std::vector<TokenId>{5, 24, 41, 57, 62, 50, 43, 55, 48, 38, 43, 19});
}

TEST_CASE("sampler: each token comes as often as its probability says") {
  const std::vector<float> logits = logs({0.4, 0.3, 0.15, 0.1, 0.05});
  const int draws = 200000;
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    CAPTURE(temperature);
    const SamplingOptions options{.temperature = temperature, .seed = 7};
    check_counts(
        draw_many(logits, options, draws),
        naive_distribution(logits, options),
        draws);
  }
}

TEST_CASE("sampler: filters keep what a full sort keeps") {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    std::vector<float> logits(1 + rng.below(60));
    const double spread = std::exp(rng.uniform() * 5 - 2);
    const bool coarse = rng.below(2) == 0; // with ties
    for (float& logit : logits) {
      const double x = rng.uniform() * spread;
      logit = static_cast<float>(coarse ? std::round(x) : x);
    }
    SamplingOptions options{.seed = seed};
    options.temperature = static_cast<float>(0.2 + rng.uniform() * 2);
    options.top_k = static_cast<int>(rng.below(logits.size() + 10));
    options.top_p =
        rng.below(2) == 0 ? 1.0f : static_cast<float>(rng.uniform());
    options.min_p =
        rng.below(2) == 0 ? 0.0f : static_cast<float>(rng.uniform());
    const int draws = 3000;
    check_counts(
        draw_many(logits, options, draws),
        naive_distribution(logits, options),
        draws);
  }
}

TEST_CASE("sampler: of equal tokens top-k and top-p keep the lower ids") {
  const std::vector<float> logits(1000, 0.5f);
  const auto largest_of = [&](const SamplingOptions& options) {
    return draw_many(logits, options, 2000).rbegin()->first;
  };
  CHECK(largest_of({.temperature = 1, .top_k = 10}) == 9);
  CHECK(largest_of({.temperature = 1, .top_p = 0.02f}) == 19);
}

TEST_CASE("sampler: the narrowest filters leave the best token") {
  const std::vector<float> logits = {0.1f, 0.3f, 0.2f, 0.3f};
  for (const SamplingOptions& options : {
           SamplingOptions{.temperature = 1, .top_k = 1},
           SamplingOptions{.temperature = 1, .top_p = 0},
           SamplingOptions{.temperature = 1, .top_p = 1e-30f},
           SamplingOptions{.temperature = 1e-40f, .top_k = 1},
       }) {
    const auto counts = draw_many(logits, options, 200);
    CHECK(counts.size() == 1);
    CHECK(counts.begin()->first == 1);
  }
  // A tie with the best is as probable as the best.
  const auto tied = draw_many(logits, {.temperature = 1, .min_p = 1}, 200);
  CHECK(tied.size() == 2);
  CHECK(tied.contains(1));
  CHECK(tied.contains(3));
}

TEST_CASE("sampler: top-p counts what top-k left") {
  // Of the two that top-k leaves the first has 4/7, enough for a half.
  const auto logits = logs({0.4, 0.3, 0.2, 0.1});
  const auto counts =
      draw_many(logits, {.temperature = 1, .top_k = 2, .top_p = 0.5f}, 500);
  CHECK(counts.size() == 1);
}

TEST_CASE("sampler: min-p comes after the temperature") {
  const auto logits = logs({0.8, 0.2});
  const SamplingOptions cold{.temperature = 1, .min_p = 0.4f};
  const SamplingOptions warm{.temperature = 2, .min_p = 0.4f};
  CHECK(draw_many(logits, cold, 500).size() == 1);
  CHECK(draw_many(logits, warm, 500).size() == 2);
}

TEST_CASE("sampler: a repeated token is penalised once, whatever its sign") {
  Sampler sampler({.repetition_penalty = 2});
  CHECK(sample(sampler, {3, 2, -1}) == 0);
  sampler.accept(0);
  sampler.accept(0);
  CHECK(sample(sampler, {3, 2, -1}) == 1); // 1.5 against 2
  CHECK(sample(sampler, {3, 1.4f, -1}) == 0); // not 0.75
  CHECK(sample(sampler, {-1, -1.5f, -3}) == 1); // -2 against -1.5
  // One that the vocabulary ends before.
  sampler.accept(1000);
  CHECK(sample(sampler, {3, 2, -1}) == 1);
  // Before the filters: the best two are now 1 and 2.
  Sampler narrow({.temperature = 1, .top_k = 2, .repetition_penalty = 10});
  narrow.accept(0);
  for (int i = 0; i < 50; ++i) {
    CHECK(sample(narrow, {3, 2, 2, -1}).value() != 0);
  }
}

TEST_CASE("sampler: presence counts a generated token once, frequency always") {
  Sampler presence({.presence_penalty = 1});
  Sampler frequency({.frequency_penalty = 1});
  for (Sampler* sampler : {&presence, &frequency}) {
    sampler->accept_prompt(0); // of the prompt, which does not count
    CHECK(sample(*sampler, {3, 2.5f, -1}) == 0);
    sampler->accept(0);
    CHECK(sample(*sampler, {3, 2.5f, -1}) == 1); // 2 against 2.5
    CHECK(sample(*sampler, {3, 1.5f, -1}) == 0);
    sampler->accept(0);
  }
  CHECK(sample(presence, {3, 1.5f, -1}) == 0);
  CHECK(sample(frequency, {3, 1.5f, -1}) == 1); // 1 against 1.5
  Sampler liking({.presence_penalty = -2}); // what was said is said again
  liking.accept(1);
  CHECK(sample(liking, {3, 1.5f, -1}) == 1);
}

TEST_CASE("sampler: a bias is added, but not to what the mask forbids") {
  Sampler sampler({.logit_bias = {{1, 2}, {2, 100}, {1000, 100}}});
  CHECK(sample(sampler, {3, 2, -1}) == 2);
  CHECK(sample(sampler, {3, 2, -1}, {0b011}) == 1);
  Sampler twice({.logit_bias = {{1, 1}, {1, 1}}});
  CHECK(sample(twice, {3, 2, -1}) == 1);
}

TEST_CASE("sampler: samplers that share scratch space do not feel each other") {
  const auto scratch = std::make_shared<SamplerScratch>();
  const SamplingOptions options{.temperature = 1, .top_k = 3, .seed = 7};
  Sampler alone(options);
  Sampler shared(options, scratch);
  Sampler other({.temperature = 3, .top_p = 0.5f, .seed = 8}, scratch);
  for (int i = 0; i < 50; ++i) {
    CHECK(sample(alone, {1, 2, 3, 2}) == sample(shared, {1, 2, 3, 2}));
    sample(other, {5, 4, 3, 2, 1, 0});
  }
}

TEST_CASE("sampler: allocates nothing after the first token") {
  // At first few tokens are probable, then all are.
  std::vector<float> scratch(50000, -100);
  scratch[0] = 1;
  Sampler sampler(
      {.temperature = 1,
       .top_k = 30000,
       .top_p = 0.9f,
       .min_p = 0.1f,
       .repetition_penalty = 1.1f});
  sampler.sample(scratch);
  const size_t before = allocations;
  for (TokenId i = 0; i < 20; ++i) {
    std::fill(scratch.begin(), scratch.end(), 1.0f);
    sampler.sample(scratch);
    sampler.accept(i * 2500);
  }
  CHECK(allocations == before);
}

TEST_CASE("sampling options: a value outside its range is refused by name") {
  const auto message = [](const SamplingOptions& options) -> std::string {
    try {
      validate(options);
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::invalid_argument);
      return e.what();
    }
    return "";
  };
  const auto names = [&](const SamplingOptions& options, const char* field) {
    return message(options).find(field) != std::string::npos;
  };
  CHECK(message({}) == "");
  CHECK(message({.temperature = 100, .top_k = 7, .top_p = 0}) == "");
  CHECK(names({.temperature = -0.1f}, "temperature"));
  CHECK(names({.temperature = kNan}, "temperature"));
  CHECK(names({.temperature = kInfinity}, "temperature"));
  CHECK(names({.top_k = -1}, "top_k"));
  CHECK(names({.top_p = 1.1f}, "top_p"));
  CHECK(names({.top_p = kNan}, "top_p"));
  CHECK(names({.min_p = -0.5f}, "min_p"));
  CHECK(names({.repetition_penalty = 0}, "repetition_penalty"));
  CHECK(names({.presence_penalty = kNan}, "presence_penalty"));
  CHECK(names({.frequency_penalty = kInfinity}, "frequency_penalty"));
  CHECK(names({.logit_bias = {{3, kNan}}}, "logit_bias"));
  CHECK_THROWS_AS(Sampler({.top_k = -1}), Error);
}

TEST_CASE("finish reasons have their names") {
  CHECK(finish_reason_name(FinishReason::stop) == std::string("stop"));
  CHECK(finish_reason_name(FinishReason::length) == std::string("length"));
  CHECK(
      finish_reason_name(FinishReason::cancelled) == std::string("cancelled"));
}
