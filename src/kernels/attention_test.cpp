// Goal: attention is near the double-precision reference on every SIMD target,
// and a row's bits depend on its query and its own keys and values alone.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/test_support.h"

namespace mlx_flash::kernels {
namespace {

AttentionShape
shape_of(int64_t heads, int64_t kv_heads, int64_t head_dim, KvType type) {
  return {
      heads,
      1.0f / std::sqrt(static_cast<float>(head_dim)),
      {kv_heads, head_dim, type}};
}

// Scratch of which nothing is to be believed.
void poison(Scratch& scratch, const AttentionShape& shape, int threads) {
  const size_t n = attention_scratch_floats(shape, threads);
  std::memset(scratch.reserve(n), 0xFF, n * sizeof(float));
}

// Paged keys and values of one sequence. What is not written is NaN, each page
// is an allocation of its own, and so every stray read shows.
class Sequence {
 public:
  Sequence(const AttentionShape& shape, int64_t capacity) : kv_(shape.kv) {
    const int64_t pages = (capacity + kKvPageTokens - 1) / kKvPageTokens;
    for (int64_t p = 0; p < pages; ++p) {
      memory_.emplace_back(
          static_cast<size_t>(kv_.page_bytes()), std::byte{0xFF});
    }
    for (auto& page : memory_) {
      pages_.push_back(page.data());
    }
  }

  void append(const float* keys, const float* values) {
    append_kv(kv_, pages_.data(), length_++, keys, values);
  }

  void append_random(Rng& rng, int64_t tokens) {
    const int64_t n = kv_.kv_heads * kv_.head_dim;
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
  KvLayout kv_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::byte*> pages_;
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
  poison(scratch, shape, 1);
  std::vector<float> out(static_cast<size_t>(shape.heads * shape.kv.head_dim));
  const AttentionRow row = sequence.row(query, out.data(), length);
  attention(pool, scratch, shape, {&row, 1});
  return out;
}

// A query, and what the reference answers.
struct Question {
  AttentionShape shape;
  const Sequence* sequence;
  int64_t length;
  std::vector<float> query;
  std::vector<float> expected;

  Question(Rng& rng, const AttentionShape& s, const Sequence& of, int64_t n)
      : shape(s),
        sequence(&of),
        length(n),
        query(random_floats(rng, s.heads * s.kv.head_dim, -3, 3)),
        expected(query.size()) {
    const AttentionRow row = of.row(query.data(), expected.data(), length);
    reference_attention(shape, {&row, 1});
  }

  void require_answer(const std::vector<float>& out) const {
    CAPTURE(shape.heads);
    CAPTURE(shape.kv.kv_heads);
    CAPTURE(shape.kv.head_dim);
    CAPTURE(static_cast<int>(shape.kv.type));
    CAPTURE(length);
    double worst = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const double error = std::abs(double{out[i]} - double{expected[i]});
      worst = std::max(worst, std::isnan(error) ? INFINITY : error);
    }
    // i16 rounds weights to 1 / 131038 of a page's sum; a query is rounded for
    // the reference too.
    REQUIRE(worst < (shape.kv.type == KvType::i16 ? 2e-4 : 4e-6));
  }
};

// Each question alone, on two threads.
void require_answers(const std::vector<Question>& questions) {
  for_each_target([&] {
    ThreadPool pool(2);
    Scratch scratch;
    for (const Question& q : questions) {
      std::vector<float> out(q.query.size());
      poison(scratch, q.shape, 2);
      const AttentionRow row =
          q.sequence->row(q.query.data(), out.data(), q.length);
      attention(pool, scratch, q.shape, {&row, 1});
      q.require_answer(out);
    }
  });
}

TEST_CASE("attention: near the reference for lengths 1 to 200") {
  const uint64_t seed = 51;
  CAPTURE(seed);
  Rng rng(seed);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Question> questions;
  for (const KvType type : {KvType::f32, KvType::i16}) {
    for (const AttentionShape& shape :
         {shape_of(8, 2, 64, type),
          shape_of(4, 4, 20, type),
          shape_of(20, 1, 37, type),
          shape_of(2, 1, 128, type),
          shape_of(71, 1, 16, type), // more heads than one task takes
          shape_of(3, 1, 1, type)}) {
      sequences.push_back(std::make_unique<Sequence>(shape, 200));
      sequences.back()->append_random(rng, 200);
      for (int64_t length = 1; length <= 200; length += 1 + length / 9) {
        questions.emplace_back(rng, shape, *sequences.back(), length);
      }
    }
  }
  require_answers(questions);
}

TEST_CASE("attention: near the reference for random shapes up to 5000 long") {
  const uint64_t seed = 58;
  CAPTURE(seed);
  Rng rng(seed);
  constexpr int64_t kHeadDims[] = {64, 80, 96, 128, 256};
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Question> questions;
  for (int i = 0; i < 24; ++i) {
    const int64_t group = 1 + static_cast<int64_t>(rng.below(16));
    const int64_t kv_heads = 1 + static_cast<int64_t>(rng.below(2));
    const auto shape = shape_of(
        group * kv_heads,
        kv_heads,
        kHeadDims[rng.below(5)],
        i % 2 == 0 ? KvType::i16 : KvType::f32);
    const auto length = static_cast<int64_t>(
        std::exp(std::log(5000.0) * rng.uniform())); // short ones as often
    sequences.push_back(std::make_unique<Sequence>(shape, length));
    sequences.back()->append_random(rng, length);
    questions.emplace_back(rng, shape, *sequences.back(), length);
  }
  const auto longest = shape_of(4, 2, 64, KvType::i16);
  sequences.push_back(std::make_unique<Sequence>(longest, 5000));
  sequences.back()->append_random(rng, 5000);
  questions.emplace_back(rng, longest, *sequences.back(), 5000);
  require_answers(questions);
}

// Rows of prompts' chunks and single tokens of the sequences, mixed.
struct Company {
  std::vector<const Sequence*> sequences;
  std::vector<int64_t> lengths;

  Company(
      Rng& rng,
      const std::vector<std::unique_ptr<Sequence>>& all,
      int64_t longest_chunk) {
    const auto chunks = 1 + rng.below(5);
    for (uint64_t c = 0; c < chunks; ++c) {
      const Sequence* sequence = all[rng.below(all.size())].get();
      const auto last = static_cast<int64_t>(
          1 + rng.below(static_cast<uint64_t>(sequence->length())));
      const auto rows = static_cast<int64_t>(
          1 + rng.below(static_cast<uint64_t>(longest_chunk)));
      for (int64_t n = std::max<int64_t>(1, last - rows + 1); n <= last; ++n) {
        sequences.push_back(sequence);
        lengths.push_back(n);
      }
    }
  }
  int64_t count() const {
    return static_cast<int64_t>(lengths.size());
  }
};

// Attends for rows in company, and for some of them alone.
void require_same_bits(
    Rng& rng,
    ThreadPool& pool,
    const AttentionShape& shape,
    const Company& company) {
  const int64_t n = shape.heads * shape.kv.head_dim;
  const auto queries = random_floats(rng, company.count() * n);
  std::vector<float> out(queries.size());
  std::vector<AttentionRow> rows;
  for (int64_t r = 0; r < company.count(); ++r) {
    const auto at = static_cast<size_t>(r);
    rows.push_back(company.sequences[at]->row(
        queries.data() + r * n, out.data() + r * n, company.lengths[at]));
  }
  Scratch scratch;
  poison(scratch, shape, pool.threads());
  attention(pool, scratch, shape, rows);
  for (int64_t r = 0; r < company.count(); r += 1 + company.count() / 12) {
    const auto at = static_cast<size_t>(r);
    const auto alone = attend_alone(
        shape,
        *company.sequences[at],
        queries.data() + r * n,
        company.lengths[at]);
    CAPTURE(r);
    CAPTURE(company.lengths[at]);
    REQUIRE(same_bits(alone.data(), out.data() + r * n, n));
  }
}

TEST_CASE("attention: a row's bits do not depend on company or threads") {
  const uint64_t seed = 52;
  CAPTURE(seed);
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool three(3);
  ThreadPool four(4);
  ThreadPool* pools[] = {&one, &two, &three, &four};
  for_each_target([&] {
    Rng rng(seed);
    for (const KvType type : {KvType::f32, KvType::i16}) {
      for (const AttentionShape& shape :
           {shape_of(8, 2, 32, type),
            shape_of(4, 4, 24, type),
            shape_of(5, 1, 37, type),
            shape_of(34, 2, 16, type)}) {
        std::vector<std::unique_ptr<Sequence>> sequences;
        for (const int64_t length : {1, 23, 90, 200}) {
          sequences.push_back(std::make_unique<Sequence>(shape, 200));
          sequences.back()->append_random(rng, length);
        }
        for (int round = 0; round < 24; ++round) {
          const Company company(rng, sequences, 80);
          require_same_bits(rng, *pools[round % 4], shape, company);
        }
      }
    }
  });
}

// So few rows that each one's spans are shared out to the threads.
TEST_CASE("attention: a long row's bits do not depend on company or threads") {
  const uint64_t seed = 59;
  CAPTURE(seed);
  Rng rng(seed);
  for (const auto& shape :
       {shape_of(4, 1, 24, KvType::i16),
        shape_of(71, 1, 16, KvType::i16)}) { // more heads than one task takes
    CAPTURE(shape.heads);
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (const int64_t length : {700, shape.heads > 64 ? 1100 : 5000}) {
      sequences.push_back(std::make_unique<Sequence>(shape, length));
      sequences.back()->append_random(rng, length);
    }
    for_each_target([&] {
      for (const int threads : {1, 2, 3, 4}) {
        CAPTURE(threads);
        ThreadPool pool(threads);
        for (int64_t longest_chunk : {1, 1, 3, 40}) {
          const Company company(rng, sequences, longest_chunk);
          require_same_bits(rng, pool, shape, company);
        }
      }
    });
  }
}

TEST_CASE("attention: rows appended one by one and in chunks are the same") {
  constexpr int64_t kTokens = 75;
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      const auto shape = shape_of(4, 2, 32, type);
      const int64_t kv = shape.kv.kv_heads * shape.kv.head_dim;
      const int64_t n = shape.heads * shape.kv.head_dim;
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
            rows.push_back(sequence.row(
                queries.data() + t * n, out.data() + t * n, t + 1));
          }
          attention(pool, scratch, shape, rows);
        }
        if (first.empty()) {
          first = out;
        }
        CHECK(same_bits(out.data(), first.data(), kTokens * n));
      }
    }
  });
}

// Tokens behind a row's end that are not finite, beside it in the batch.
TEST_CASE("attention: what follows a row's length does not reach it") {
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      const auto shape = shape_of(4, 2, 32, type);
      const int64_t n = shape.heads * shape.kv.head_dim;
      const std::vector<float> bad(
          static_cast<size_t>(shape.kv.kv_heads * shape.kv.head_dim),
          std::numeric_limits<float>::infinity());
      for (const int64_t count : {2, 12}) {
        CAPTURE(count);
        Rng rng(54);
        // One thread, so that all rows are one task's.
        ThreadPool pool(1);
        Scratch scratch;
        Sequence sequence(shape, 64);
        sequence.append_random(rng, 40);
        const auto queries = random_floats(rng, count * n);
        const auto before = attend_alone(shape, sequence, queries.data(), 40);
        std::vector<float> out(queries.size());
        std::vector<AttentionRow> rows;
        for (int64_t r = 0; r < count; ++r) {
          rows.push_back(
              sequence.row(queries.data() + r * n, out.data() + r * n, 40 + r));
          sequence.append(bad.data(), bad.data());
        }
        attention(pool, scratch, shape, rows);
        CHECK(same_bits(out.data(), before.data(), n));
        CHECK(std::isnan(out[static_cast<size_t>(n)]));
      }
    }
  });
}

// Of scores so far apart that one has all the weight.
TEST_CASE("attention: the largest of large scores has the value") {
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      for (const double magnitude : {1e6, 5e9, 1e12, 1e25}) {
        CAPTURE(magnitude);
        const auto shape = shape_of(1, 1, 16, type);
        Rng rng(55);
        Sequence sequence(shape, 90);
        sequence.append_random(rng, 90);
        const auto query = random_floats(rng, 16, -magnitude, magnitude);
        Question question(rng, shape, sequence, 90);
        question.query = query;
        const AttentionRow row =
            sequence.row(query.data(), question.expected.data(), 90);
        reference_attention(shape, {&row, 1});
        question.require_answer(
            attend_alone(shape, sequence, query.data(), 90));
      }
    }
  });
}

TEST_CASE("attention: a query of zeros weighs all values alike") {
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      const auto shape = shape_of(2, 1, 16, type);
      Sequence sequence(shape, 70);
      for (int t = 0; t < 70; ++t) {
        const std::vector<float> key(16, t % 2 == 0 ? 1.0f : 0.0f);
        const std::vector<float> value(16, t % 2 == 0 ? 3.0f : 0.0f);
        sequence.append(key.data(), value.data());
      }
      const std::vector<float> query(32, 0.0f);
      std::vector<float> expected(32);
      const AttentionRow row = sequence.row(query.data(), expected.data(), 70);
      reference_attention(shape, {&row, 1});
      const auto out = attend_alone(shape, sequence, query.data(), 70);
      for (size_t i = 0; i < out.size(); ++i) {
        CHECK(expected[i] == doctest::Approx(1.5));
        CHECK(out[i] == doctest::Approx(1.5).epsilon(3e-4));
      }
    }
  });
}

// In a query, a key or a value that a row attends to.
TEST_CASE("attention: what is not a number makes the row NaN, and no other") {
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      const auto shape = shape_of(2, 2, 16, type);
      for (const auto& [bad, at] : std::vector<std::pair<const char*, int>>{
               {"query", 40},
               {"key", 0},
               {"key", 40},
               {"key", 64},
               {"value", 0},
               {"value", 40}}) {
        CAPTURE(bad);
        CAPTURE(at);
        Rng rng(63);
        Sequence sequence(shape, 80);
        sequence.append_random(rng, at);
        auto key = random_floats(rng, 32);
        auto value = random_floats(rng, 32);
        auto query = random_floats(rng, 32);
        (bad[0] == 'q' ? query : bad[0] == 'k' ? key : value)[3] = NAN;
        sequence.append(key.data(), value.data());
        sequence.append_random(rng, 79 - at);
        const auto out = attend_alone(shape, sequence, query.data(), 80);
        CHECK(std::isnan(out[3]));
        for (size_t i = 16; i < 32; ++i) { // the other head
          CHECK(std::isfinite(out[i]));
        }
      }
    }
  });
}

TEST_CASE("attention: a query's bits do not depend on those beside it") {
  for_each_target([&] {
    for (const KvType type : {KvType::f32, KvType::i16}) {
      const auto shape = shape_of(6, 1, 16, type);
      Rng rng(65);
      Sequence sequence(shape, 80);
      sequence.append_random(rng, 80);
      auto query = random_floats(rng, 6 * 16);
      const auto good = attend_alone(shape, sequence, query.data(), 80);
      for (const float other : {NAN, INFINITY, 1e30f, 0.0f}) {
        CAPTURE(other);
        std::fill_n(query.begin() + 2 * 16, 16, other);
        const auto out = attend_alone(shape, sequence, query.data(), 80);
        CHECK(same_bits(out.data(), good.data(), 2 * 16));
        CHECK(same_bits(out.data() + 3 * 16, good.data() + 3 * 16, 3 * 16));
      }
    }
  });
}

TEST_CASE("attention: targets with a fused multiply-add give the same bits") {
  for (const KvType type : {KvType::f32, KvType::i16}) {
    std::vector<float> first;
    for_each_target([&] {
      if (!has_fused_multiply_add()) {
        return;
      }
      Rng rng(64);
      const auto shape = shape_of(10, 2, 52, type);
      Sequence sequence(shape, 700);
      sequence.append_random(rng, 700);
      const auto query = random_floats(rng, 10 * 52);
      const auto out = attend_alone(shape, sequence, query.data(), 700);
      if (first.empty()) {
        first = out;
      }
      CHECK(same_bits(out.data(), first.data(), 10 * 52));
    });
  }
}

TEST_CASE("attention: keys and values beyond half precision's") {
  const auto shape = shape_of(1, 1, 16, KvType::i16);
  for_each_target([&] {
    Sequence sequence(shape, 16);
    const std::vector<float> large(16, 1e6f);
    const std::vector<float> small(16, -1e6f);
    sequence.append(small.data(), small.data());
    sequence.append(large.data(), large.data());
    sequence.append(small.data(), small.data());
    const std::vector<float> query(16, 1.0f);
    for (const float value : attend_alone(shape, sequence, query.data(), 3)) {
      CHECK(value == doctest::Approx(1e6)); // that of the one large score
    }
  });
}

// The largest sums that there are: whole keys of the largest integer, times
// queries whose numbers are as large as their sum lets them be.
TEST_CASE("attention: sums of integers do not overflow") {
  for (const int64_t head_dim : {1, 64, 128, 256, 512}) {
    CAPTURE(head_dim);
    AttentionShape shape = shape_of(2, 1, head_dim, KvType::i16);
    shape.scale = 1.0f / static_cast<float>(head_dim);
    const auto n = static_cast<size_t>(head_dim);
    for_each_target([&] {
      Sequence sequence(shape, 64);
      const std::vector<float> ones(n, 1.0f);
      const std::vector<float> minus(n, -1.0f);
      for (int t = 0; t < 64; ++t) {
        sequence.append(
            (t == 40 ? ones : minus).data(), (t == 40 ? ones : minus).data());
      }
      std::vector<float> query(2 * n, 20.0f);
      query[0] = 21; // so that not all are alike
      for (const float value :
           attend_alone(shape, sequence, query.data(), 64)) {
        CHECK(value == doctest::Approx(1).epsilon(1e-3)); // score 20, not -20
      }
    });
  }
}

// What rounding queries and weights costs beside f32's keys and values.
TEST_CASE("attention: i16 is near f32") {
  const uint64_t seed = 60;
  CAPTURE(seed);
  constexpr int64_t kLength = 700;
  const auto exact = shape_of(8, 2, 128, KvType::f32);
  const auto rounded = shape_of(8, 2, 128, KvType::i16);
  Sequence in_f32(exact, kLength);
  Sequence in_i16(rounded, kLength);
  Rng one(seed);
  Rng two(seed);
  in_f32.append_random(one, kLength);
  in_i16.append_random(two, kLength);
  const auto query = random_floats(one, 8 * 128, -3, 3);
  for_each_target([&] {
    const auto a = attend_alone(exact, in_f32, query.data(), kLength);
    const auto b = attend_alone(rounded, in_i16, query.data(), kLength);
    double error = 0;
    double norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      error += std::pow(double{a[i]} - double{b[i]}, 2);
      norm += std::pow(double{a[i]}, 2);
    }
    CHECK(std::sqrt(error / norm) < 1e-3);
  });
}

TEST_CASE("attention: no more scratch than it says, for any context") {
  Rng rng(56);
  for (const KvType type : {KvType::f32, KvType::i16}) {
    const auto shape = shape_of(8, 2, 64, type);
    const int64_t n = shape.heads * shape.kv.head_dim;
    Sequence sequence(shape, 1100);
    sequence.append_random(rng, 1100);
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      for (const int64_t count : {1, 150}) {
        Scratch scratch;
        const auto queries = random_floats(rng, count * n);
        std::vector<float> out(queries.size());
        std::vector<AttentionRow> rows;
        for (int64_t r = 0; r < count; ++r) {
          rows.push_back(sequence.row(
              queries.data() + r * n, out.data() + r * n, 1100 - r));
        }
        attention(pool, scratch, shape, rows);
        CHECK(
            scratch.bytes() <=
            4 * attention_scratch_floats(shape, threads) + 64);
      }
    }
  }
}

TEST_CASE("attention: no rows, and one position") {
  ThreadPool pool(2);
  Scratch scratch;
  const auto shape = shape_of(4, 2, 8, KvType::f32);
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
