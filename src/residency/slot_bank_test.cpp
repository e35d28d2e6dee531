// The bank against a model of it that is too simple to be wrong, under random
// leases, fills, commits and drops.
#include "residency/slot_bank.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/check_test.h"
#include "base/rng.h"

using namespace mlx_flash;

static_assert(!std::is_copy_constructible_v<SlotBank::Lease>);
static_assert(!std::is_copy_assignable_v<SlotBank::Lease>);
static_assert(!std::is_default_constructible_v<SlotBank::Lease>);
static_assert(std::is_nothrow_move_constructible_v<SlotBank::Lease>);
static_assert(!std::is_copy_constructible_v<SlotBank::Filling>);
static_assert(!std::is_copy_assignable_v<SlotBank::Filling>);
static_assert(!std::is_copy_constructible_v<SlotBank>);
static_assert(!std::is_move_constructible_v<SlotBank>);

namespace {

constexpr uint16_t kLayers = 5;
constexpr uint16_t kExperts = 8;
constexpr size_t kSlotBytes = 48;

struct Fixture {
  Fixture(
      std::string_view policy_name,
      uint32_t slots,
      bool poison = SlotBank::kPoisonByDefault)
      : memory(slots * kSlotBytes),
        policy(make_policy(policy_name, {slots, kLayers, kExperts, 2})),
        bank(memory, kSlotBytes, *policy, poison) {}

  // Makes `key` resident and releases it.
  void put(ExpertKey key, int value) {
    auto filling = bank.begin_fill(key);
    REQUIRE(filling);
    std::memset(filling->bytes().data(), value, kSlotBytes);
    (void)std::move(*filling).commit();
  }

  std::vector<std::byte> memory;
  std::unique_ptr<EvictionPolicy> policy;
  SlotBank bank;
};

bool all_bytes_are(std::span<const std::byte> bytes, int value) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) {
    return b == static_cast<std::byte>(value);
  });
}

} // namespace

TEST_CASE("slot bank: the memory makes as many slots as fit whole") {
  std::vector<std::byte> memory(10 * kSlotBytes - 1);
  const auto policy = make_policy("lru", {9, 1, 1, 1});
  SlotBank bank(memory, kSlotBytes, *policy);
  CHECK(bank.slots() == 9);
  CHECK(bank.slot_bytes() == kSlotBytes);
  CHECK(bank.pinned_slots() == 0);
}

TEST_CASE("slot bank: an expert is resident from commit on, not before") {
  Fixture f("lru", 2);
  auto filling = f.bank.begin_fill({1, 2});
  REQUIRE(filling);
  CHECK(filling->slot() == 0);
  CHECK(filling->bytes().data() == f.memory.data());
  CHECK(filling->bytes().size() == kSlotBytes);
  CHECK_FALSE(f.bank.is_resident({1, 2}));
  CHECK_FALSE(f.bank.try_lease({1, 2}, 1));
  CHECK(f.bank.pinned_slots() == 1);

  const auto lease = std::move(*filling).commit();
  CHECK(f.bank.is_resident({1, 2}));
  CHECK(f.bank.pinned_slots() == 1);
  CHECK(lease.bytes().data() == f.memory.data());
  CHECK(f.bank.hits() == 0);
  CHECK(f.bank.misses() == 1);
}

TEST_CASE("slot bank: free slots are taken before anything is evicted") {
  Fixture f("efd", 3);
  for (uint16_t e = 0; e < 3; ++e) {
    f.put({0, e}, e);
    CHECK(f.bank.evictions() == 0);
  }
  f.put({0, 3}, 3);
  CHECK(f.bank.evictions() == 1);
}

TEST_CASE("slot bank: several leases of one expert pin it until the last") {
  Fixture f("lru", 1);
  f.put({0, 0}, 7);
  auto a = f.bank.try_lease({0, 0}, 1);
  auto b = f.bank.try_lease({0, 0}, 3);
  REQUIRE(a);
  REQUIRE(b);
  CHECK(a->slot() == b->slot());
  CHECK(f.bank.pinned_slots() == 1);
  a.reset();
  CHECK(f.bank.pinned_slots() == 1);
  CHECK_FALSE(f.bank.begin_fill({0, 1}));
  CHECK(all_bytes_are(b->bytes(), 7));
  SlotBank::Lease moved = *std::move(b);
  b.reset();
  CHECK_FALSE(f.bank.begin_fill({0, 1}));
  {
    const SlotBank::Lease last = std::move(moved);
  }
  CHECK(f.bank.pinned_slots() == 0);
  CHECK(f.bank.begin_fill({0, 1}));
  CHECK(f.bank.hits() == 2);
}

TEST_CASE("slot bank: a lease that is replaced is let go") {
  Fixture f("lru", 2);
  f.put({0, 0}, 7);
  f.put({0, 1}, 8);
  auto a = f.bank.try_lease({0, 0}, 1);
  auto b = f.bank.try_lease({0, 1}, 1);
  REQUIRE(a);
  REQUIRE(b);
  *a = *std::move(b);
  CHECK(f.bank.pinned_slots() == 1);
  CHECK(all_bytes_are(a->bytes(), 8));
}

TEST_CASE("slot bank: a dropped filling leaves a free slot and no expert") {
  Fixture f("efd", 1);
  {
    auto filling = f.bank.begin_fill({2, 2});
    REQUIRE(filling);
    CHECK_FALSE(f.bank.begin_fill({2, 3}));
  }
  CHECK_FALSE(f.bank.is_resident({2, 2}));
  CHECK(f.bank.pinned_slots() == 0);
  f.put({2, 2}, 1);
  CHECK(f.bank.is_resident({2, 2}));
  // Nobody was evicted: the slot was free.
  CHECK(f.bank.evictions() == 0);
}

TEST_CASE("slot bank: knows how many slots were ever used") {
  Fixture f("lru", 4);
  CHECK(f.bank.used_slots() == 0);
  f.put({0, 1}, 1);
  f.put({0, 2}, 2);
  CHECK(f.bank.used_slots() == 2);
  (void)f.bank.begin_fill({0, 3}); // dropped
  CHECK(f.bank.used_slots() == 3);
  f.put({0, 3}, 3); // in the same slot
  CHECK(f.bank.used_slots() == 3);
  for (uint16_t expert = 4; expert < 8; ++expert) {
    f.put({1, expert}, expert); // evicts, in the end
  }
  CHECK(f.bank.used_slots() == 4);
}

TEST_CASE("slot bank: a slot is poisoned when its expert leaves") {
  Fixture f("lru", 2, /*poison=*/true);
  f.put({0, 0}, 1);
  f.put({0, 1}, 2);
  auto filling = f.bank.begin_fill({0, 2});
  REQUIRE(filling);
  CHECK(filling->slot() == 0);
  CHECK(all_bytes_are(filling->bytes(), 0xFF));
  // The other slot is as it was.
  CHECK(all_bytes_are(std::span(f.memory).last(kSlotBytes), 2));
  // What was half read is poisoned, too.
  std::memset(filling->bytes().data(), 3, kSlotBytes / 2);
  filling.reset();
  CHECK(all_bytes_are(std::span(f.memory).first(kSlotBytes), 0xFF));

  Fixture plain("lru", 1, /*poison=*/false);
  plain.put({0, 0}, 1);
  const auto next = plain.bank.begin_fill({0, 1});
  CHECK(all_bytes_are(plain.memory, 1));
}

namespace {

// Does random things to a bank and to a model of it: a table of what each
// slot holds.
class Play {
 public:
  Play(const char* policy, uint32_t slots, uint64_t seed)
      : f_(policy, slots), rng_(seed), model_(slots) {}

  ~Play() {
    leases_.clear();
    fillings_.clear();
  }

  void run(int operations) {
    for (int i = 0; i < operations; ++i) {
      INFO("operation ", i);
      one();
      check_counts();
      check_bytes();
    }
  }

 private:
  struct Held {
    SlotBank::Lease lease;
    ExpertKey key;
  };
  struct Fill {
    SlotBank::Filling filling;
    ExpertKey key;
  };
  struct Content {
    enum { free, filling, ready } state = free;
    ExpertKey key;
    int leases = 0;
    int value = 0; // of all bytes once it is ready
  };

  ExpertKey random_key() {
    return {
        static_cast<uint16_t>(rng_.below(kLayers)),
        static_cast<uint16_t>(rng_.below(kExperts))};
  }

  Content* find(ExpertKey key) {
    for (auto& content : model_) {
      if (content.state != Content::free && content.key == key) {
        return &content;
      }
    }
    return nullptr;
  }

  void one() {
    switch (rng_.below(8)) {
      case 0:
        f_.bank.begin_step(1 + rng_.below(3));
        break;
      case 1:
      case 2:
        lease(random_key());
        break;
      case 3:
      case 4:
        fill(random_key());
        break;
      case 5:
        finish_one(/*commit=*/true);
        break;
      case 6:
        finish_one(rng_.below(2));
        break;
      default:
        release_one();
    }
  }

  void lease(ExpertKey key) {
    auto found = f_.bank.try_lease(key, 1);
    Content* content = find(key);
    const bool ready = content && content->state == Content::ready;
    REQUIRE(found.has_value() == ready);
    ++(ready ? hits_ : misses_);
    if (ready) {
      ++content->leases;
      REQUIRE(content == &model_[found->slot()]);
      leases_.push_back({*std::move(found), key});
    }
  }

  void fill(ExpertKey key) {
    if (find(key)) {
      return;
    }
    const auto count = [&](auto predicate) {
      return std::count_if(model_.begin(), model_.end(), predicate);
    };
    const bool any_free =
        count([](const auto& c) { return c.state == Content::free; }) > 0;
    const bool any_evictable =
        count([](const auto& c) {
          return c.state == Content::ready && c.leases == 0;
        }) > 0;
    auto filling = f_.bank.begin_fill(key);
    REQUIRE(filling.has_value() == (any_free || any_evictable));
    if (!filling) {
      return;
    }
    Content& content = model_[filling->slot()];
    if (any_free) {
      REQUIRE(content.state == Content::free);
    } else {
      REQUIRE(content.state == Content::ready);
      REQUIRE(content.leases == 0);
      ++evictions_;
    }
    content = {.state = Content::filling, .key = key};
    // A read arrives in pieces.
    std::memset(filling->bytes().data(), 0xEE, kSlotBytes / 2);
    fillings_.push_back({*std::move(filling), key});
  }

  void finish_one(bool commit) {
    if (fillings_.empty()) {
      return;
    }
    const size_t i = rng_.below(fillings_.size());
    std::swap(fillings_[i], fillings_.back());
    Fill fill = std::move(fillings_.back());
    fillings_.pop_back();
    Content& content = model_[fill.filling.slot()];
    if (!commit) {
      content = {};
      return;
    }
    content.state = Content::ready;
    content.value = static_cast<int>(rng_.below(200));
    content.leases = 1;
    std::memset(fill.filling.bytes().data(), content.value, kSlotBytes);
    leases_.push_back({std::move(fill.filling).commit(), fill.key});
  }

  void release_one() {
    if (leases_.empty()) {
      return;
    }
    const size_t i = rng_.below(leases_.size());
    std::swap(leases_[i], leases_.back());
    --model_[leases_.back().lease.slot()].leases;
    leases_.pop_back();
  }

  void check_counts() {
    REQUIRE(f_.bank.hits() == hits_);
    REQUIRE(f_.bank.misses() == misses_);
    REQUIRE(f_.bank.evictions() == evictions_);
    const auto pinned =
        std::count_if(model_.begin(), model_.end(), [](const auto& c) {
          return c.state == Content::filling || c.leases > 0;
        });
    REQUIRE(f_.bank.pinned_slots() == pinned);
    for (uint16_t l = 0; l < kLayers; ++l) {
      for (uint16_t e = 0; e < kExperts; ++e) {
        const Content* content = find({l, e});
        const bool ready = content && content->state == Content::ready;
        REQUIRE(f_.bank.is_resident({l, e}) == ready);
      }
    }
  }

  void check_bytes() {
    for (const auto& held : leases_) {
      const Content& content = model_[held.lease.slot()];
      REQUIRE(content.key == held.key);
      REQUIRE(all_bytes_are(held.lease.bytes(), content.value));
    }
    for (const auto& fill : fillings_) {
      const auto half = fill.filling.bytes().first(kSlotBytes / 2);
      REQUIRE(model_[fill.filling.slot()].key == fill.key);
      REQUIRE(all_bytes_are(half, 0xEE));
    }
  }

  Fixture f_;
  Rng rng_;
  std::vector<Content> model_; // by slot
  std::vector<Held> leases_;
  std::vector<Fill> fillings_;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;
  uint64_t evictions_ = 0;
};

} // namespace

TEST_CASE("invariant 3: a slot in use is never overwritten") {
  for (const char* policy : {"lru", "efd"}) {
    for (const uint32_t slots : {1, 2, 7, 20, 60}) {
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(policy);
        CAPTURE(slots);
        CAPTURE(seed);
        Play(policy, slots, seed).run(1500);
      }
    }
  }
}

#ifndef NDEBUG

TEST_CASE("slot bank: builds with checks catch misuse") {
  CHECK_FALSE(fails_check([] { Fixture("efd", 2).put({0, 0}, 1); }));
  SUBCASE("an expert that is resident is filled again") {
    CHECK(fails_check([] {
      Fixture f("efd", 2);
      f.put({0, 0}, 1);
      (void)f.bank.begin_fill({0, 0});
    }));
  }
  SUBCASE("an expert that is being filled is filled again") {
    CHECK(fails_check([] {
      Fixture f("efd", 2);
      const auto filling = f.bank.begin_fill({0, 0});
      (void)f.bank.begin_fill({0, 0});
    }));
  }
  SUBCASE("a lease outlives its bank") {
    CHECK(fails_check([] {
      auto f = std::make_unique<Fixture>("efd", 2);
      f->put({0, 0}, 1);
      const auto lease = f->bank.try_lease({0, 0}, 1);
      f.reset();
    }));
  }
  SUBCASE("an expert that the model does not have") {
    CHECK(fails_check(
        [] { (void)Fixture("efd", 2).bank.try_lease({kLayers, 0}, 1); }));
  }
}

#endif
