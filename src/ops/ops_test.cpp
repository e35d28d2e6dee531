// The two back-ends against each other: our kernels and MLX's stock
// operations on MLX's CPU back-end, both in f32, on random shapes.
#include <doctest/doctest.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "ops/array_kv_cache.h"
#include "ops/cpu_ops.h"
#include "ops/mlx_ops.h"
#include "ops/paged_kv_cache.h"

using namespace mlx_flash;
using namespace mlx_flash::ops;

namespace {

float uniform(Rng& rng) {
  return static_cast<float>(rng.uniform() * 2 - 1);
}

mx::array random_rows(Rng& rng, int rows, int features) {
  std::vector<float> values(static_cast<size_t>(rows) * features);
  for (float& v : values) {
    v = uniform(rng);
  }
  return mx::array(values.begin(), {rows, features}, mx::float32);
}

// How the weights of a test are stored; f32 unless there are bits.
struct Form {
  kernels::WeightType type = kernels::WeightType::f32;
  int bits = 0;

  Form() = default;
  Form(int affine_bits)
      : type(
            affine_bits > 0 ? kernels::WeightType::affine
                            : kernels::WeightType::f32),
        bits(affine_bits) {}
};

Form mxfp4() {
  Form form(4);
  form.type = kernels::WeightType::mxfp4;
  return form;
}

// A random matrix in `memory` at `place`'s offsets, small enough in value
// that products stay near one.
void fill_matrix(Rng& rng, const MatrixPlace& place, std::byte* base) {
  const kernels::Matrix m = place.at(base);
  const auto write_floats = [&](const std::byte* at, int64_t n, float scale) {
    auto* out = const_cast<std::byte*>(at);
    for (int64_t i = 0; i < n; ++i) {
      const float value = uniform(rng) * scale;
      std::memcpy(out + 4 * i, &value, 4);
    }
  };
  const auto write_bytes =
      [&](const std::byte* at, int64_t n, uint64_t least, uint64_t values) {
        auto* out = const_cast<std::byte*>(at);
        for (int64_t i = 0; i < n; ++i) {
          out[i] = static_cast<std::byte>(least + rng.below(values));
        }
      };
  if (!kernels::is_quantised(m)) {
    write_floats(m.weight, m.out * m.in, 0.1f);
    return;
  }
  write_bytes(m.weight, m.out * kernels::row_bytes(m), 0, 256);
  const int64_t groups = m.out * m.in / m.group_size;
  if (m.type == kernels::WeightType::mxfp4) {
    write_bytes(m.scales, groups, 121, 3); // 2^-6 .. 2^-4
    return;
  }
  write_floats(m.scales, groups, 0.02f);
  write_floats(m.biases, groups, 0.1f);
}

MatrixPlace place_of(int out, int in, const Form& form, size_t start) {
  MatrixPlace place;
  kernels::Matrix& m = place.matrix;
  m.type = form.type;
  m.out = out;
  m.in = in;
  place.weight_offset = start;
  if (form.bits > 0) {
    m.scale_type = form.type == kernels::WeightType::mxfp4
        ? kernels::ScaleType::e8m0
        : kernels::ScaleType::f32;
    m.bits = form.bits;
    m.group_size = 32;
    place.scales_offset = start + static_cast<size_t>(out) * in * m.bits / 8;
    place.biases_offset = place.scales_offset + size_t{4} * out * in / 32;
  }
  return place;
}

size_t end_of(const MatrixPlace& place) {
  const auto& m = place.matrix;
  return kernels::is_quantised(m)
      ? place.biases_offset + 4 * m.out * m.in / m.group_size
      : place.weight_offset + 4 * m.out * m.in;
}

Linear random_linear(Rng& rng, int out, int in, const Form& form) {
  const MatrixPlace place = place_of(out, in, form, 0);
  Linear linear{DeviceBuffer(end_of(place)), place};
  fill_matrix(rng, place, linear.memory.data());
  return linear;
}

// The largest, relative to the largest value.
double difference(const mx::array& a, const mx::array& b) {
  REQUIRE(a.shape() == b.shape());
  auto gap = mx::max(mx::abs(mx::subtract(a, b)));
  auto size = mx::max(mx::abs(b));
  return gap.item<float>() / std::max(1.0f, size.item<float>());
}

struct BothBackEnds {
  CpuOps cpu{2, kernels::Precision::f32};
  MlxOps mlx{mx::Device::cpu, mx::float32};

  template <typename Call>
  double difference_of(const Call& call) {
    return difference(
        call(static_cast<Ops&>(cpu)), call(static_cast<Ops&>(mlx)));
  }
};

} // namespace

TEST_CASE("cpu ops: memory of a large result serves the next") {
  Rng rng(3);
  CpuOps cpu(1, kernels::Precision::f32);
  const Linear w = random_linear(rng, 1000, 64, Form());
  const mx::array x = random_rows(rng, 100, 64);
  const size_t before = mx::get_active_memory();
  {
    const mx::array y = cpu.linear(w, x);
    CHECK(mx::get_active_memory() >= before + y.nbytes());
  }
  CHECK(mx::get_active_memory() >= before + 4 * 1000 * 100);
  const mx::array again = cpu.linear(w, x);
  CHECK(mx::get_active_memory() < before + 2 * again.nbytes());
}

TEST_CASE("ops: both back-ends agree on linear layers and embeddings") {
  BothBackEnds ops;
  Rng rng(11);
  for (const Form& form :
       {Form(),
        Form(2),
        Form(3),
        Form(4),
        Form(5),
        Form(6),
        Form(8),
        mxfp4()}) {
    CAPTURE(form.bits);
    CAPTURE(mlx_mode(form.type));
    const Linear w = random_linear(rng, 40, 96, form);
    const auto x = random_rows(rng, 9, 96);
    CHECK(ops.difference_of([&](Ops& o) { return o.linear(w, x); }) < 1e-4);
    CHECK(ops.difference_of([&](Ops& o) {
      return o.embed(w, {3, 39, 0, 3});
    }) < 1e-5);
  }
}

TEST_CASE("ops: both back-ends agree on several layers and on MLPs") {
  BothBackEnds ops;
  Rng rng(15);
  const Linear a = random_linear(rng, 40, 96, 4);
  const Linear b = random_linear(rng, 24, 96, 8);
  const auto x = random_rows(rng, 9, 96);
  const auto apart = ops.cpu.linears({&a, &b}, x);
  REQUIRE(apart.size() == 2);
  CHECK(mx::array_equal(apart[0], ops.cpu.linear(a, x)).item<bool>());
  CHECK(mx::array_equal(apart[1], ops.cpu.linear(b, x)).item<bool>());
  CHECK(ops.difference_of([&](Ops& o) {
    return o.linears({&a, &b}, x)[1];
  }) < 1e-4);
  const SwigluMlp mlp{
      random_linear(rng, 64, 96, 4),
      random_linear(rng, 64, 96, 4),
      random_linear(rng, 96, 64, 6)};
  CHECK(ops.difference_of([&](Ops& o) { return o.mlp(mlp, x); }) < 1e-4);
}

TEST_CASE("ops: products with integers are near those with floats") {
  CpuOps exact(2, kernels::Precision::f32);
  CpuOps rounded(2, kernels::Precision::int8);
  Rng rng(16);
  for (const Form& form :
       {Form(2), Form(3), Form(4), Form(5), Form(6), Form(8), mxfp4()}) {
    CAPTURE(form.bits);
    const Linear w = random_linear(rng, 40, 96, form);
    const auto x = random_rows(rng, 9, 96);
    const double gap = difference(rounded.linear(w, x), exact.linear(w, x));
    CHECK(gap < 0.02);
    CHECK(gap > 0); // or the precision would not be what was asked for
  }
}

TEST_CASE("ops: both back-ends agree on norms, rope and elementwise") {
  BothBackEnds ops;
  Rng rng(12);
  const auto x = random_rows(rng, 5, 64);
  const auto y = random_rows(rng, 5, 64);
  const auto weight = mx::reshape(random_rows(rng, 1, 16), {16});
  mx::eval(weight);
  CHECK(ops.difference_of([&](Ops& o) {
    return o.rms_norm(x, weight, 1e-6f);
  }) < 1e-5);
  CHECK(ops.difference_of([&](Ops& o) { return o.add(x, y); }) == 0);
  const std::vector<int32_t> positions{0, 1, 2, 700, 701};
  CHECK(ops.difference_of([&](Ops& o) {
    return o.rope({16, 16, 10000}, x, positions);
  }) < 2e-4);
  CHECK(
      ops.difference_of([&](Ops& o) { return o.select_rows(x, {4, 0}); }) == 0);
}

TEST_CASE("ops: both back-ends route alike, best expert first") {
  BothBackEnds ops;
  Rng rng(13);
  const auto logits = random_rows(rng, 12, 16);
  for (const bool normalize : {false, true}) {
    const Routing a = ops.cpu.route(logits, 3, normalize);
    const Routing b = ops.mlx.route(logits, 3, normalize);
    CHECK(mx::array_equal(a.ids, b.ids).item<bool>());
    CHECK(difference(a.weights, b.weights) < 1e-6);
    const auto sums = mx::sum(a.weights, -1);
    if (normalize) {
      CHECK(difference(sums, mx::ones({12})) < 1e-6);
    } else {
      CHECK(mx::max(sums).item<float>() < 1);
    }
  }
}

TEST_CASE("ops: both back-ends agree on experts of a bank") {
  BothBackEnds ops;
  Rng rng(14);
  constexpr int kHidden = 64;
  constexpr int kInner = 32;
  constexpr int kExperts = 6;
  for (const Form& form : {Form(), Form(4), Form(8), mxfp4()}) {
    CAPTURE(form.bits);
    CAPTURE(mlx_mode(form.type));
    ExpertRecord record;
    record.gate = place_of(kInner, kHidden, form, 0);
    record.up = place_of(kInner, kHidden, form, end_of(record.gate));
    record.down = place_of(kHidden, kInner, form, end_of(record.up));
    const size_t pitch = (end_of(record.down) + 127) / 64 * 64;
    const ExpertBank bank{
        DeviceBuffer(pitch * kExperts, 4096), pitch, kExperts};
    for (int e = 0; e < kExperts; ++e) {
      std::byte* slot = bank.memory.data() + e * pitch;
      fill_matrix(rng, record.gate, slot);
      fill_matrix(rng, record.up, slot);
      fill_matrix(rng, record.down, slot);
    }
    const auto x = random_rows(rng, 7, kHidden);
    const Routing routing =
        ops.cpu.route(random_rows(rng, 7, kExperts), 2, true);
    CHECK(ops.difference_of([&](Ops& o) {
      return o.experts(bank, record, x, routing.ids, routing.weights);
    }) < 1e-4);
  }
}

TEST_CASE("ops: both back-ends attend alike, in chunks and together") {
  BothBackEnds ops;
  Rng rng(15);
  const AttentionSpec spec{4, 2, 16, 0.25f};
  const KvShape shape{1, 2, 16};
  const auto cpu_cache = ops.cpu.make_kv_cache(shape, 256);
  const auto mlx_cache = ops.mlx.make_kv_cache(shape, 256);
  for (int s = 0; s < 2; ++s) {
    CHECK(cpu_cache->add_sequence() == s);
    CHECK(mlx_cache->add_sequence() == s);
  }
  // Sequence 0 in chunks of 20, 1 and 3; sequence 1 joins the last two.
  const std::vector<std::pair<int, int>> chunks{{20, 0}, {1, 18}, {3, 1}};
  for (const auto& [first, second] : chunks) {
    Batch batch;
    const auto add = [&](int sequence, int rows) {
      if (rows > 0) {
        const int length = cpu_cache->length(sequence);
        CHECK(cpu_cache->reserve(sequence, length + rows));
        CHECK(mlx_cache->reserve(sequence, length + rows));
        batch.add(sequence, length, std::vector<uint32_t>(rows, 0));
      }
    };
    add(0, first);
    add(1, second);
    const auto q = random_rows(rng, batch.rows(), 64);
    const auto k = random_rows(rng, batch.rows(), 32);
    const auto v = random_rows(rng, batch.rows(), 32);
    const auto a = ops.cpu.attention(spec, q, k, v, *cpu_cache, 0, batch);
    const auto b = ops.mlx.attention(spec, q, k, v, *mlx_cache, 0, batch);
    CHECK(difference(a, b) < 1e-5);
    for (const Segment& segment : batch.segments) {
      const int end = segment.start + segment.rows;
      cpu_cache->set_length(segment.sequence, end);
      mlx_cache->set_length(segment.sequence, end);
    }
  }
}

TEST_CASE("ops: keys and values in 16 bits are near those in 32") {
  CpuOps exact(2, kernels::Precision::f32);
  CpuOps rounded(2, kernels::Precision::int8);
  Rng rng(17);
  constexpr int kRows = 150;
  const auto q = random_rows(rng, kRows, 64);
  const auto k = random_rows(rng, kRows, 32);
  const auto v = random_rows(rng, kRows, 32);
  const auto attend = [&](Ops& o) {
    const auto cache = o.make_kv_cache({2, 2, 16}, kRows);
    Batch batch;
    REQUIRE(cache->reserve(cache->add_sequence(), kRows));
    batch.add(0, 0, std::vector<uint32_t>(kRows, 0));
    return o.attention({4, 2, 16, 0.25f}, q, k, v, *cache, 1, batch);
  };
  const double gap = difference(attend(rounded), attend(exact));
  CHECK(gap < 1e-3);
  CHECK(gap > 0); // or the precision would not be what was asked for
}

TEST_CASE("kv cache: pages are returned when a sequence shrinks or ends") {
  BothBackEnds ops;
  for (Ops* o : {static_cast<Ops*>(&ops.cpu), static_cast<Ops*>(&ops.mlx)}) {
    const auto cache = o->make_kv_cache({2, 1, 8}, 4 * kKvPageTokens);
    const int a = cache->add_sequence();
    const int b = cache->add_sequence();
    CHECK(cache->reserve(a, 3 * kKvPageTokens));
    CHECK_FALSE(cache->reserve(b, kKvPageTokens + 1));
    CHECK(cache->reserve(b, kKvPageTokens));
    cache->set_length(a, 3 * kKvPageTokens);
    cache->set_length(a, 1);
    CHECK(cache->length(a) == 1);
    CHECK(cache->reserve(b, 3 * kKvPageTokens));
    cache->remove_sequence(b);
    CHECK(cache->reserve(a, 4 * kKvPageTokens));
    CHECK(cache->add_sequence() == b);
  }
}

TEST_CASE("kv cache: arrays hold the pages of a sequence and no more") {
  const KvShape shape{1, 4, 32};
  const mx::Stream stream = mx::default_stream(mx::Device::cpu);
  ArrayKvCache cache(shape, 16 * kKvPageTokens, mx::float32, stream);
  const int sequence = cache.add_sequence();
  const size_t before = mx::get_active_memory();
  const int rows = kKvPageTokens + 1;
  REQUIRE(cache.reserve(sequence, rows));
  {
    const auto ones = mx::ones({1, 4, rows, 32}, mx::float32, stream);
    auto [keys, values] = cache.update(sequence, 0, 0, ones, ones);
    mx::eval(keys, values);
  }
  constexpr size_t kPageBytes = size_t{4} * 32 * kKvPageTokens * 4;
  CHECK(mx::get_active_memory() - before >= 2 * 2 * kPageBytes);
  CHECK(mx::get_active_memory() - before < 3 * 2 * kPageBytes);
  cache.set_length(sequence, rows);
  cache.set_length(sequence, 0); // others may have its pages
  CHECK(mx::get_active_memory() - before < kPageBytes);
}

TEST_CASE("kv cache: sequences can begin with the same pages") {
  CpuOps ops(2, kernels::Precision::f32);
  const KvShape shape{1, 1, 8};
  PagedKvCache cache(shape, 5 * kKvPageTokens, kernels::KvType::f32);
  Rng rng(18);
  const AttentionSpec spec{1, 1, 8, 0.25f};
  const auto attend = [&](int sequence, int start, int rows, uint64_t seed) {
    Rng own(seed); // the same rows for the same seed
    const auto x = random_rows(own, rows, 8);
    REQUIRE(cache.reserve(sequence, start + rows));
    Batch batch;
    batch.add(sequence, start, std::vector<uint32_t>(rows, 0));
    const auto out = ops.attention(spec, x, x, x, cache, 0, batch);
    cache.set_length(sequence, start + rows);
    return std::vector<float>(
        out.data<float>(), out.data<float>() + out.size());
  };
  const int first = cache.add_sequence();
  const int second = cache.add_sequence();
  attend(first, 0, 2 * kKvPageTokens, 1);
  const auto expected = attend(first, 2 * kKvPageTokens, 3, 2);
  const auto pages = cache.pages(first);
  cache.begin_with(second, std::vector(pages.begin(), pages.begin() + 2));
  CHECK(cache.length(second) == 2 * kKvPageTokens);
  CHECK(cache.free_pages() == 2);
  CHECK(attend(second, 2 * kKvPageTokens, 3, 2) == expected);
  // Written to behind a rewind, a shared page is copied first.
  cache.set_length(second, kKvPageTokens + 1);
  attend(second, kKvPageTokens + 1, 5, 3);
  CHECK(cache.pages(second)[0] == cache.pages(first)[0]);
  CHECK(cache.pages(second)[1] != cache.pages(first)[1]);
  cache.set_length(first, 2 * kKvPageTokens);
  CHECK(attend(first, 2 * kKvPageTokens, 3, 2) == expected);
  // A page is free again after its last user.
  const uint32_t shared = cache.pages(first)[0];
  cache.retain(shared);
  cache.remove_sequence(first);
  cache.remove_sequence(second);
  CHECK(cache.free_pages() == 4);
  CHECK(cache.users(shared) == 1);
  cache.release(shared);
  CHECK(cache.free_pages() == 5);
}

TEST_CASE("kv cache: a copy of a shared page needs room") {
  PagedKvCache cache({1, 1, 8}, 2 * kKvPageTokens, kernels::KvType::f32);
  const int first = cache.add_sequence();
  const int second = cache.add_sequence();
  REQUIRE(cache.reserve(first, 2 * kKvPageTokens));
  cache.set_length(first, 2 * kKvPageTokens);
  const auto pages = cache.pages(first);
  cache.begin_with(second, std::vector(pages.begin(), pages.begin() + 1));
  cache.set_length(second, 3);
  CHECK(cache.reserve(second, 3)); // nothing to write
  CHECK_FALSE(cache.reserve(second, 4));
  CHECK(cache.pages(second)[0] == cache.pages(first)[0]);
  cache.remove_sequence(first);
  CHECK(cache.reserve(second, 4)); // its own now
}

TEST_CASE("device buffer: arrays see what is written behind them") {
  const DeviceBuffer buffer(100, 4096);
  CHECK(reinterpret_cast<size_t>(buffer.data()) % 4096 == 0);
  const auto view = buffer.array(8, {2, 2}, mx::float32, {4, 1});
  const std::vector<float> values{1, 2, 0, 0, 3, 4};
  std::memcpy(buffer.data() + 8, values.data(), 24);
  CHECK(mx::sum(view).item<float>() == 10);
}
