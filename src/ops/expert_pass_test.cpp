// A pass must not care in which order experts are at hand.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "base/rng.h"
#include "ops/experts.h"

using namespace mlx_flash;
using namespace mlx_flash::ops;

namespace {

constexpr int kHidden = 64;
constexpr int kInner = 32;
constexpr int kExperts = 5;
constexpr int kRows = 9;
constexpr int kTopK = 2;

// 4-bit weights in groups of 32 with scales of f32, from `offset` on; returns
// the end.
size_t place(MatrixPlace& p, int out, int in, size_t offset) {
  kernels::Matrix& m = p.matrix;
  m.type = kernels::WeightType::affine;
  m.scale_type = kernels::ScaleType::f32;
  m.bits = 4;
  m.group_size = 32;
  m.out = out;
  m.in = in;
  p.weight_offset = offset;
  p.scales_offset = offset + static_cast<size_t>(out * in / 2);
  p.biases_offset = p.scales_offset + static_cast<size_t>(out * in / 32 * 4);
  return p.biases_offset + static_cast<size_t>(out * in / 32 * 4);
}

void fill_scales(Rng& rng, const MatrixPlace& p, std::byte* record) {
  for (const size_t offset : {p.scales_offset, p.biases_offset}) {
    for (int64_t i = 0; i < p.matrix.out * p.matrix.in / 32; ++i) {
      const auto value = static_cast<float>(rng.uniform() - 0.5);
      std::memcpy(record + offset + 4 * i, &value, 4);
    }
  }
}

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
    size_t bytes = place(record.gate, kInner, kHidden, 0);
    bytes = place(record.up, kInner, kHidden, bytes);
    bytes = place(record.down, kHidden, kInner, bytes);
    pitch = bytes + 64;
    memory.resize(kExperts * pitch + 64);
    for (auto& byte : memory) {
      byte = static_cast<std::byte>(rng.next());
    }
    for (int e = 0; e < kExperts; ++e) {
      for (const auto* p : {&record.gate, &record.up, &record.down}) {
        fill_scales(rng, *p, memory.data() + e * pitch);
      }
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

  // The rows from `first` on; experts arrive one by one, or all at once.
  enum class Arrival { forwards, backwards, together };
  std::vector<float> run(Arrival arrival, int first, int rows) {
    ExpertPass pass;
    pass.begin(
        pool,
        kernels::Precision::int8,
        record,
        {x.data() + first * kHidden,
         ids.data() + first * kTopK,
         weights.data() + first * kTopK,
         rows,
         kTopK,
         kExperts});
    std::vector<ExpertPass::Present> present;
    for (uint32_t g = 0; g < pass.groups().size(); ++g) {
      present.push_back({g, memory.data() + pass.groups()[g].expert * pitch});
    }
    if (arrival == Arrival::backwards) {
      std::reverse(present.begin(), present.end());
    }
    if (arrival == Arrival::together) {
      pass.compute(pool, scratch, present);
    } else {
      for (const auto& expert : present) {
        pass.compute(pool, scratch, {&expert, 1});
      }
    }
    std::vector<float> out(static_cast<size_t>(rows) * kHidden);
    pass.combine(pool, out.data());
    return out;
  }
};

using Arrival = Scene::Arrival;

} // namespace

TEST_CASE("expert pass: the order of arrival does not change a bit") {
  Scene scene;
  const auto forwards = scene.run(Arrival::forwards, 0, kRows);
  CHECK(scene.run(Arrival::backwards, 0, kRows) == forwards);
  CHECK(scene.run(Arrival::together, 0, kRows) == forwards);
}

TEST_CASE("expert pass: rows equal experts computed one row at a time") {
  Scene scene;
  const auto all = scene.run(Arrival::together, 0, kRows);
  for (int r = 0; r < kRows; ++r) {
    const auto one = scene.run(Arrival::forwards, r, 1);
    CHECK(
        std::memcmp(
            one.data(), all.data() + r * kHidden, kHidden * sizeof(float)) ==
        0);
  }
}
