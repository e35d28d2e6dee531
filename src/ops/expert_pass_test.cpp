// A pass must not care in which order experts are at hand.
#include <doctest/doctest.h>

#include <cstring>

#include "base/rng.h"
#include "ops/experts.h"

using namespace mlx_flash;
using namespace mlx_flash::ops;

namespace {

constexpr int kHidden = 24;
constexpr int kInner = 16;
constexpr int kExperts = 5;
constexpr int kRows = 9;
constexpr int kTopK = 2;

struct Scene {
  ThreadPool pool{2};
  kernels::Scratch scratch;
  ExpertRecord record;
  std::vector<std::byte> memory;
  size_t pitch = 0;
  std::vector<float> x;
  std::vector<uint32_t> ids;
  std::vector<float> weights;

  Scene() {
    Rng rng(21);
    record.gate.matrix.out = record.up.matrix.out = kInner;
    record.gate.matrix.in = record.up.matrix.in = kHidden;
    record.down.matrix.out = kHidden;
    record.down.matrix.in = kInner;
    const size_t bytes = 4 * kInner * kHidden;
    record.up.weight_offset = bytes;
    record.down.weight_offset = 2 * bytes;
    pitch = 3 * bytes + 64;
    memory.resize(kExperts * pitch + 64);
    for (size_t i = 0; i + 4 <= memory.size(); i += 4) {
      const auto value = static_cast<float>(rng.uniform() - 0.5);
      std::memcpy(memory.data() + i, &value, 4);
    }
    for (int i = 0; i < kRows * kHidden; ++i) {
      x.push_back(static_cast<float>(rng.uniform()));
    }
    for (int r = 0; r < kRows; ++r) {
      const auto first = static_cast<uint32_t>(rng.below(kExperts));
      ids.push_back(first);
      ids.push_back((first + 1 + rng.below(kExperts - 1)) % kExperts);
      weights.push_back(0.75f);
      weights.push_back(0.25f);
    }
  }

  std::vector<float> run(bool backwards) {
    ExpertPass pass;
    pass.begin(
        x.data(), ids.data(), weights.data(), kRows, kTopK, kHidden, kExperts);
    std::vector<ExpertPass::Group> groups(
        pass.groups().begin(), pass.groups().end());
    if (backwards) {
      std::reverse(groups.begin(), groups.end());
    }
    for (const auto& group : groups) {
      pass.compute(
          pool, scratch, group, record, memory.data() + group.expert * pitch);
    }
    std::vector<float> out(kRows * kHidden);
    pass.combine(pool, out.data());
    return out;
  }
};

} // namespace

TEST_CASE("expert pass: the order of arrival does not change a bit") {
  Scene scene;
  CHECK(scene.run(false) == scene.run(true));
}

TEST_CASE("expert pass: rows equal experts computed one row at a time") {
  Scene scene;
  const auto all = scene.run(false);
  for (int r = 0; r < kRows; ++r) {
    ExpertPass pass;
    pass.begin(
        scene.x.data() + r * kHidden,
        scene.ids.data() + r * kTopK,
        scene.weights.data() + r * kTopK,
        1,
        kTopK,
        kHidden,
        kExperts);
    REQUIRE(pass.groups().size() == kTopK);
    for (const auto& group : pass.groups()) {
      pass.compute(
          scene.pool,
          scene.scratch,
          group,
          scene.record,
          scene.memory.data() + group.expert * scene.pitch);
    }
    std::vector<float> out(kHidden);
    pass.combine(scene.pool, out.data());
    CHECK(
        std::memcmp(
            out.data(), all.data() + r * kHidden, kHidden * sizeof(float)) ==
        0);
  }
}
