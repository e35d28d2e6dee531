// Goal: attention is near the double-precision reference on every SIMD target,
// and a row's bits depend on its query and its own keys and values alone.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

AttentionShape shape_of(
    int64_t heads,
    int64_t kv_heads,
    int64_t head_dim,
    int64_t page_tokens) {
  return {
      heads,
      kv_heads,
      head_dim,
      page_tokens,
      1.0f / std::sqrt(static_cast<float>(head_dim))};
}

// Paged keys and values of one sequence. What is not written is NaN, each page
// is an allocation of its own, and so every stray read shows.
class Sequence {
 public:
  Sequence(const AttentionShape& shape, int64_t capacity) : shape_(shape) {
    const int64_t pages =
        (capacity + shape.page_tokens - 1) / shape.page_tokens;
    const auto floats = static_cast<size_t>(
        shape.kv_heads * shape.page_tokens * shape.head_dim);
    for (int64_t p = 0; p < pages; ++p) {
      memory_.emplace_back(floats, kPoison);
      memory_.emplace_back(floats, kPoison);
    }
    for (size_t p = 0; p < memory_.size(); p += 2) {
      pages_.push_back({memory_[p].data(), memory_[p + 1].data()});
    }
  }

  void append(const float* keys, const float* values) {
    append_kv(shape_, pages_.data(), length_++, keys, values);
  }

  void append_random(Rng& rng, int64_t tokens) {
    const int64_t n = shape_.kv_heads * shape_.head_dim;
    for (int64_t t = 0; t < tokens; ++t) {
      append(random_floats(rng, n).data(), random_floats(rng, n, -2, 2).data());
    }
  }

  AttentionRow row(const float* query, float* out, int64_t length) const {
    return {query, out, pages_.data(), length};
  }
  int64_t length() const {
    return length_;
  }

 private:
  AttentionShape shape_;
  std::vector<std::vector<float>> memory_;
  std::vector<KvPage> pages_;
  int64_t length_ = 0;
};

// The result of one row alone, on one thread.
std::vector<float> attend_alone(
    const AttentionShape& shape,
    const Sequence& sequence,
    const float* query,
    int64_t length) {
  ThreadPool pool(1);
  Scratch scratch;
  std::vector<float> out(static_cast<size_t>(shape.heads * shape.head_dim));
  const AttentionRow row = sequence.row(query, out.data(), length);
  attention(pool, scratch, shape, {&row, 1});
  return out;
}

TEST_CASE("attention: near the reference for lengths 1 to 200") {
  const uint64_t seed = 51;
  CAPTURE(seed);
  const AttentionShape shapes[] = {
      shape_of(8, 2, 64, 32),
      shape_of(4, 4, 20, 7),
      shape_of(20, 1, 37, 50),
      shape_of(2, 1, 128, 1),
      shape_of(3, 1, 1, 16)};
  for_each_target([&] {
    Rng rng(seed);
    ThreadPool pool(2);
    for (const auto& shape : shapes) {
      CAPTURE(shape.head_dim);
      CAPTURE(shape.page_tokens);
      Sequence sequence(shape, 200);
      sequence.append_random(rng, 200);
      const int64_t n = shape.heads * shape.head_dim;
      for (int64_t length = 1; length <= 200; length += 1 + length / 9) {
        CAPTURE(length);
        const auto query = random_floats(rng, n, -3, 3);
        const auto out = attend_alone(shape, sequence, query.data(), length);
        std::vector<float> expected(static_cast<size_t>(n));
        const AttentionRow row =
            sequence.row(query.data(), expected.data(), length);
        reference_attention(shape, {&row, 1});
        for (int64_t i = 0; i < n; ++i) {
          CAPTURE(i);
          const auto at = static_cast<size_t>(i);
          REQUIRE(
              std::abs(
                  static_cast<double>(out[at]) -
                  static_cast<double>(expected[at])) < 4e-6);
        }
      }
    }
  });
}

TEST_CASE("attention: a row's bits do not depend on company or threads") {
  const uint64_t seed = 52;
  CAPTURE(seed);
  const AttentionShape shapes[] = {
      shape_of(8, 2, 32, 16), shape_of(4, 4, 24, 5), shape_of(34, 2, 16, 64)};
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool three(3);
  ThreadPool* pools[] = {&one, &two, &three};
  for_each_target([&] {
    Rng rng(seed);
    Scratch scratch;
    for (const auto& shape : shapes) {
      const int64_t n = shape.heads * shape.head_dim;
      std::vector<std::unique_ptr<Sequence>> sequences;
      for (const int64_t length : {1, 23, 90}) {
        sequences.push_back(std::make_unique<Sequence>(shape, 100));
        sequences.back()->append_random(rng, length);
      }
      for (int round = 0; round < 30; ++round) {
        // Chunks of a prompt and single tokens of the sequences, mixed.
        std::vector<int> owners;
        std::vector<int64_t> lengths;
        const auto chunks = 1 + rng.below(5);
        for (uint64_t c = 0; c < chunks; ++c) {
          const auto owner = static_cast<int>(rng.below(3));
          const int64_t last = sequences[static_cast<size_t>(owner)]->length();
          const int64_t first =
              1 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(last)));
          for (int64_t length = first; length <= last; ++length) {
            owners.push_back(owner);
            lengths.push_back(length);
          }
        }
        const auto count = static_cast<int64_t>(owners.size());
        const auto queries = random_floats(rng, count * n);
        std::vector<float> out(queries.size());
        std::vector<AttentionRow> rows;
        for (int64_t r = 0; r < count; ++r) {
          const auto at = static_cast<size_t>(r);
          rows.push_back(sequences[static_cast<size_t>(owners[at])]->row(
              queries.data() + r * n, out.data() + r * n, lengths[at]));
        }
        attention(*pools[round % 3], scratch, shape, rows);
        for (int64_t r = 0; r < count; r += 1 + count / 12) {
          const auto at = static_cast<size_t>(r);
          const auto alone = attend_alone(
              shape,
              *sequences[static_cast<size_t>(owners[at])],
              queries.data() + r * n,
              lengths[at]);
          CAPTURE(r);
          REQUIRE(same_bits(alone.data(), out.data() + r * n, n));
        }
      }
    }
  });
}

TEST_CASE("attention: rows appended one by one and in chunks are the same") {
  const auto shape = shape_of(4, 2, 32, 8);
  const int64_t kv = shape.kv_heads * shape.head_dim;
  const int64_t n = shape.heads * shape.head_dim;
  constexpr int64_t kTokens = 75;
  for_each_target([&] {
    Rng rng(53);
    const auto keys = random_floats(rng, kTokens * kv);
    const auto values = random_floats(rng, kTokens * kv);
    const auto queries = random_floats(rng, kTokens * n);
    std::vector<float> first;
    for (const int64_t chunk : {1, 7, 64, 75}) {
      CAPTURE(chunk);
      ThreadPool pool(2);
      Scratch scratch;
      Sequence sequence(shape, kTokens);
      std::vector<float> out(queries.size());
      for (int64_t begin = 0; begin < kTokens; begin += chunk) {
        std::vector<AttentionRow> rows;
        for (int64_t t = begin; t < std::min(begin + chunk, kTokens); ++t) {
          sequence.append(keys.data() + t * kv, values.data() + t * kv);
          rows.push_back(
              sequence.row(queries.data() + t * n, out.data() + t * n, t + 1));
        }
        attention(pool, scratch, shape, rows);
      }
      if (first.empty()) {
        first = out;
      }
      CHECK(same_bits(out.data(), first.data(), kTokens * n));
    }
  });
}

TEST_CASE("attention: what follows a row's length does not reach it") {
  const auto shape = shape_of(4, 2, 32, 16);
  const int64_t n = shape.heads * shape.head_dim;
  for_each_target([&] {
    Rng rng(54);
    // One thread, so that both rows are one task's.
    ThreadPool pool(1);
    Scratch scratch;
    Sequence sequence(shape, 64);
    sequence.append_random(rng, 40);
    const auto query = random_floats(rng, 2 * n);
    const auto before = attend_alone(shape, sequence, query.data(), 40);
    // A later token whose keys and values overflowed, beside it in the batch.
    const std::vector<float> bad(
        static_cast<size_t>(shape.kv_heads * shape.head_dim),
        std::numeric_limits<float>::infinity());
    sequence.append(bad.data(), bad.data());
    std::vector<float> out(query.size());
    const AttentionRow rows[] = {
        sequence.row(query.data(), out.data(), 40),
        sequence.row(query.data() + n, out.data() + n, 41)};
    attention(pool, scratch, shape, rows);
    CHECK(same_bits(out.data(), before.data(), n));
  });
}

TEST_CASE("attention: large scores do not overflow") {
  const auto shape = shape_of(2, 1, 16, 8);
  for_each_target([&] {
    Rng rng(55);
    Sequence sequence(shape, 20);
    sequence.append_random(rng, 20);
    const auto query = random_floats(rng, 2 * 16, -1e6, 1e6);
    const auto out = attend_alone(shape, sequence, query.data(), 20);
    for (const float value : out) {
      CHECK(std::isfinite(value));
    }
  });
}

TEST_CASE("attention: no more scratch than it says") {
  Rng rng(56);
  for (const int threads : {1, 3}) {
    const auto shape = shape_of(8, 2, 64, 32);
    const int64_t n = shape.heads * shape.head_dim;
    ThreadPool pool(threads);
    Scratch scratch;
    Sequence sequence(shape, 150);
    sequence.append_random(rng, 150);
    const auto queries = random_floats(rng, 150 * n);
    std::vector<float> out(queries.size());
    std::vector<AttentionRow> rows;
    for (int64_t r = 0; r < 150; ++r) {
      rows.push_back(
          sequence.row(queries.data() + r * n, out.data() + r * n, r + 1));
    }
    attention(pool, scratch, shape, rows);
    CHECK(
        scratch.bytes() <=
        4 * attention_scratch_floats(shape, 150, threads) + 64);
  }
}

TEST_CASE("attention: no rows, and one position") {
  ThreadPool pool(2);
  Scratch scratch;
  const auto shape = shape_of(4, 2, 8, 4);
  attention(pool, scratch, shape, {});
  for_each_target([&] {
    Rng rng(57);
    Sequence sequence(shape, 1);
    const auto keys = random_floats(rng, 16);
    const auto values = random_floats(rng, 16);
    sequence.append(keys.data(), values.data());
    const auto query = random_floats(rng, 32);
    const auto out = attend_alone(shape, sequence, query.data(), 1);
    for (int64_t h = 0; h < 4; ++h) {
      CHECK(same_bits(out.data() + h * 8, values.data() + h / 2 * 8, 8));
    }
  });
}

} // namespace
} // namespace mlx_flash::kernels
