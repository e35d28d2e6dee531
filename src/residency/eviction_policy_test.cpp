// Each policy against a naive model of it, under random traces. The harness
// keeps the policies' contract as a bank would, with random slots pinned.
#include "residency/eviction_policy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "mlx_flash/error.h"

using namespace mlx_flash;

namespace {

// One place in the model of a bank.
struct Place {
  std::optional<ExpertKey> key;
  bool evictable = false;
};

// What a policy is, written for clarity: how much it would like each slot's
// expert to leave. The largest value leaves, of equals the lowest slot.
class Model {
 public:
  virtual ~Model() = default;
  virtual void begin_step(uint32_t tokens) = 0;
  virtual void on_use(ExpertKey key, uint32_t rows) = 0;
  virtual void on_insert(ExpertKey key) = 0;
  virtual double eagerness(ExpertKey key) const = 0;
};

class LruModel : public Model {
 public:
  void begin_step(uint32_t) override {}
  void on_use(ExpertKey key, uint32_t) override {
    last_[key] = ++clock_;
  }
  void on_insert(ExpertKey key) override {
    last_[key] = ++clock_;
  }
  double eagerness(ExpertKey key) const override {
    return -last_.at(key);
  }

 private:
  double clock_ = 0;
  std::map<ExpertKey, double> last_;
};

class EfdModel : public Model {
 public:
  explicit EfdModel(PolicyShape shape) : shape_(shape) {}

  void begin_step(uint32_t tokens) override {
    now_ += tokens;
    tokens_ = tokens;
    layer_used_.clear();
  }
  void on_use(ExpertKey key, uint32_t rows) override {
    if (layer_ != key.layer) {
      layer_used_.clear();
    }
    layer_ = key.layer;
    layer_used_.insert(key);
    double weight = 0;
    for (uint32_t i = 0; i < tokens_; ++i) {
      weight += std::exp2(-(i / 16.0)) * rows / tokens_;
    }
    uses_[key].push_back({now_, weight});
  }
  void on_insert(ExpertKey) override {}

  double eagerness(ExpertKey key) const override {
    double count = 0;
    if (const auto found = uses_.find(key); found != uses_.end()) {
      for (const auto& [time, weight] : found->second) {
        count += weight * std::exp2(-(now_ - time) / 16.0);
      }
    }
    const double uniform =
        static_cast<double>(shape_.experts_per_token) / shape_.experts;
    const double p = 0.98 * (1 - std::exp2(-1 / 16.0)) * count + 0.02 * uniform;
    int distance = (key.layer - layer_ + int(shape_.layers)) % shape_.layers;
    if (distance == 0) {
      distance = shape_.layers;
    }
    // Behind all others if the running layer uses it.
    const double offset = layer_used_.contains(key) ? -1e9 : 0;
    return offset + distance + shape_.layers * (1 / p - 1);
  }

 private:
  struct Use {
    double time;
    double weight;
  };
  const PolicyShape shape_;
  double now_ = 0;
  uint32_t tokens_ = 1;
  int layer_ = 0;
  std::set<ExpertKey> layer_used_;
  std::map<ExpertKey, std::vector<Use>> uses_;
};

class Harness {
 public:
  Harness(
      EvictionPolicy& policy,
      Model& model,
      const PolicyShape& shape,
      uint64_t seed)
      : policy_(policy),
        model_(model),
        shape_(shape),
        rng_(seed),
        places_(shape.slots) {}

  // Returns how many victims were chosen.
  int run(int steps) {
    for (int step = 0; step < steps; ++step) {
      // Mostly decode, some prompts, and now and then one so long that the
      // past is forgotten.
      const uint64_t kind = rng_.below(20);
      const auto tokens = static_cast<uint32_t>(
          kind < 16       ? 1
              : kind < 19 ? 2 + rng_.below(50)
                          : 9000);
      const auto others = static_cast<uint32_t>(rng_.below(4)); // decode beside
      policy_.begin_step(tokens);
      model_.begin_step(tokens);
      for (uint16_t layer = 0; layer < shape_.layers; ++layer) {
        run_layer(layer, tokens + others);
      }
    }
    return victims_;
  }

 private:
  void run_layer(uint16_t layer, uint32_t rows) {
    std::set<ExpertKey> wanted;
    for (uint32_t i = 0; i < shape_.experts_per_token; ++i) {
      // Some experts are far more popular than others.
      const uint64_t bound = 1 + rng_.below(shape_.experts);
      wanted.insert({layer, static_cast<uint16_t>(rng_.below(bound))});
    }
    for (const ExpertKey key : wanted) {
      const auto used = static_cast<uint32_t>(1 + rng_.below(rows));
      policy_.on_use(key, used);
      model_.on_use(key, used);
    }
    if (rng_.below(4) == 0) { // a read on a guess, for any layer
      wanted.insert(
          {static_cast<uint16_t>(rng_.below(shape_.layers)),
           static_cast<uint16_t>(rng_.below(shape_.experts))});
    }
    for (const ExpertKey key : wanted) {
      if (std::none_of(places_.begin(), places_.end(), [&](const auto& p) {
            return p.key == key;
          })) {
        insert(key);
      }
    }
  }

  void insert(ExpertKey key) {
    std::vector<uint8_t> evictable(places_.size());
    uint32_t slot = 0;
    while (slot < places_.size() && places_[slot].key) {
      ++slot;
    }
    if (slot == places_.size()) {
      const uint64_t pinned_of_8 = rng_.below(9);
      for (auto& flag : evictable) {
        flag = rng_.below(8) >= pinned_of_8;
      }
      const auto chosen = policy_.victim(evictable);
      const auto expected = model_victim(evictable);
      REQUIRE(chosen.has_value() == expected.has_value());
      if (!chosen) {
        return;
      }
      REQUIRE(evictable[*chosen]);
      compare(*chosen, *expected);
      slot = *chosen;
      policy_.on_remove(*places_[slot].key, slot);
      ++victims_;
    } else if (rng_.below(16) == 0) {
      return; // a read that failed before it began
    }
    places_[slot].key = key;
    policy_.on_insert(key, slot);
    model_.on_insert(key);
  }

  std::optional<uint32_t> model_victim(const std::vector<uint8_t>& evictable) {
    std::optional<uint32_t> best;
    for (uint32_t slot = 0; slot < places_.size(); ++slot) {
      if (evictable[slot] &&
          (!best ||
           model_.eagerness(*places_[slot].key) >
               model_.eagerness(*places_[*best].key))) {
        best = slot;
      }
    }
    return best;
  }

  // The two sum up in other orders, so that values which differ by rounding
  // alone may be told apart differently.
  void compare(uint32_t chosen, uint32_t expected) {
    const double a = model_.eagerness(*places_[chosen].key);
    const double b = model_.eagerness(*places_[expected].key);
    const bool equal =
        chosen == expected || std::abs(a - b) < 1e-9 * std::abs(b);
    CAPTURE(chosen);
    CAPTURE(expected);
    CAPTURE(a);
    CAPTURE(b);
    REQUIRE(equal);
  }

  EvictionPolicy& policy_;
  Model& model_;
  const PolicyShape shape_;
  Rng rng_;
  std::vector<Place> places_;
  int victims_ = 0;
};

template <typename MakeModel>
void compare_with_model(const char* name, MakeModel make_model) {
  for (const PolicyShape shape :
       {PolicyShape{1, 1, 4, 1},
        PolicyShape{5, 3, 6, 2},
        PolicyShape{40, 6, 16, 4},
        PolicyShape{30, 12, 32, 4}}) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(shape.slots);
      CAPTURE(seed);
      const auto policy = make_policy(name, shape);
      const auto model = make_model(shape);
      Harness harness(*policy, *model, shape, seed);
      CHECK(harness.run(60) > 10);
    }
  }
}

} // namespace

TEST_CASE("lru: victims are those of a naive model on random traces") {
  compare_with_model("lru", [](auto) { return std::make_unique<LruModel>(); });
}

TEST_CASE("efd: victims are those of a naive model on random traces") {
  compare_with_model(
      "efd", [](auto shape) { return std::make_unique<EfdModel>(shape); });
}

TEST_CASE("make_policy: knows its names and refuses others with a list") {
  const PolicyShape shape = {4, 2, 4, 1};
  CHECK(make_policy("lru", shape)->name() == "lru");
  CHECK(make_policy("efd", shape)->name() == "efd");
  for (const char* name : {"", "LRU", "lfu"}) {
    try {
      (void)make_policy(name, shape);
      FAIL("not refused: ", name);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      CHECK(std::string(error.what()).find("efd or lru") != std::string::npos);
    }
  }
}

TEST_CASE("policies: no evictable slot, no victim") {
  for (const char* name : {"lru", "efd"}) {
    const auto policy = make_policy(name, {2, 2, 4, 1});
    CHECK_FALSE(policy->victim(std::vector<uint8_t>{0, 0}));
    policy->on_insert({0, 0}, 0);
    policy->on_insert({1, 0}, 1);
    CHECK_FALSE(policy->victim(std::vector<uint8_t>{0, 0}));
    CHECK(policy->victim(std::vector<uint8_t>{0, 1}) == 1);
    CHECK(policy->victim(std::vector<uint8_t>{1, 0}) == 0);
  }
}

namespace {

const std::vector<uint8_t> kAllOf4 = {1, 1, 1, 1};

} // namespace

TEST_CASE("efd: of equally popular experts the farthest layer leaves") {
  const auto policy = make_policy("efd", {4, 4, 8, 1});
  for (uint16_t layer = 0; layer < 4; ++layer) {
    policy->on_insert({layer, 0}, 3 - layer);
  }
  policy->begin_step(1);
  policy->on_use({2, 5}, 1);
  // Layers come next in the order 3 0 1 2.
  CHECK(policy->victim(kAllOf4) == 1);
  CHECK(policy->victim(std::vector<uint8_t>{1, 0, 1, 1}) == 2);
  CHECK(policy->victim(std::vector<uint8_t>{1, 0, 0, 1}) == 3);
}

TEST_CASE("efd: of equals the lowest slot leaves") {
  const auto policy = make_policy("efd", {4, 2, 8, 2});
  policy->begin_step(1);
  for (uint16_t e = 0; e < 4; ++e) {
    policy->on_insert({1, e}, 3 - e);
    policy->on_use({1, e}, 1);
  }
  policy->begin_step(1);
  policy->on_use({0, 0}, 1);
  CHECK(policy->victim(kAllOf4) == 0);
  CHECK(policy->victim(std::vector<uint8_t>{0, 0, 1, 1}) == 2);
}

TEST_CASE("efd: what the running layer asked for leaves last") {
  const auto policy = make_policy("efd", {4, 2, 8, 4});
  // Expert 0 of layer 0 is by far the least popular.
  for (int step = 0; step < 20; ++step) {
    policy->begin_step(1);
    for (uint16_t e = 1; e < 4; ++e) {
      policy->on_use({0, e}, 1);
    }
  }
  for (uint16_t e = 0; e < 4; ++e) {
    policy->on_insert({0, e}, e);
  }
  CHECK(policy->victim(std::vector<uint8_t>{1, 1, 0, 0}) == 0);
  policy->begin_step(1);
  policy->on_use({0, 0}, 1);
  CHECK(policy->victim(kAllOf4) == 1);
  // There is no other.
  CHECK(policy->victim(std::vector<uint8_t>{1, 0, 0, 0}) == 0);
  // The next layer runs: now it may go.
  policy->on_use({1, 0}, 1);
  CHECK(policy->victim(kAllOf4) == 0);
}

TEST_CASE("efd: counts survive eviction") {
  const auto policy = make_policy("efd", {4, 1, 8, 1});
  for (int step = 0; step < 30; ++step) {
    policy->begin_step(1);
    policy->on_use({0, 6}, 1);
  }
  policy->on_insert({0, 6}, 0);
  policy->on_remove({0, 6}, 0);
  for (uint16_t e = 0; e < 3; ++e) {
    policy->begin_step(1);
    policy->on_use({0, e}, 1);
    policy->on_insert({0, e}, e);
  }
  policy->on_insert({0, 6}, 3);
  policy->begin_step(1);
  policy->on_use({0, 7}, 1);
  // Expert 6, used longest ago, was used far more often.
  CHECK(policy->victim(kAllOf4) == 0);
  CHECK(policy->victim(std::vector<uint8_t>{0, 0, 1, 1}) == 2);
}

TEST_CASE("efd: after a long prompt popular experts are still told apart") {
  const auto policy = make_policy("efd", {4, 1, 8, 1});
  policy->begin_step(4096);
  for (uint16_t e = 0; e < 4; ++e) {
    policy->on_insert({0, e}, e);
    policy->on_use({0, e}, 4096 - 1000 * e);
  }
  policy->begin_step(1);
  policy->on_use({0, 7}, 1);
  CHECK(policy->victim(kAllOf4) == 3);
  CHECK(policy->victim(std::vector<uint8_t>{1, 1, 1, 0}) == 2);
  CHECK(policy->victim(std::vector<uint8_t>{1, 1, 0, 0}) == 1);
}
