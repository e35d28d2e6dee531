// Attention of a run of queries to one page.
//
// The order of operations for each query:
//   score[p] = key[p][i] * query[i] + score[p] for each i
//   most = max(most, scale * all score[p]); factor = 2^(old most - most)
//   weight[p] = 2^(score[p] * scale - most)
//   weights[j] = factor * weights[j], then + weight[p] for each p with
//     p % kWeightSums = j
//   values[c] = factor * values[c], then + value[p][c] * weight[p] for each p
// where + of a product is fused on targets that have it. With i16, queries
// and weights (these times the scales of the values) are integers with a unit,
// sums are exact, and
//   score[p] = sum * key's scale[p], scale has the query's unit in it, and
//   values[c] = sum * unit + factor * values[c]
// A lane is a position or a column, so neither the size of the vectors nor the
// other queries take part in it.

#if defined(MLX_FLASH_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_ATTENTION_INL_H_
#undef MLX_FLASH_KERNELS_ATTENTION_INL_H_
#else
#define MLX_FLASH_KERNELS_ATTENTION_INL_H_
#endif

#include "kernels/attention_run.h"
#include "kernels/attention_softmax-inl.h"
#include "kernels/kv_words-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Attention reads a page from end to end, once or several times: for more
// queries than are answered at once, and for shorter vectors. Meanwhile it
// fetches the next page's words into the second-level cache, spread over these
// times and over softmax, and its quarters in turn, since memory gives several
// streams faster than one. And the line so many later of its own page into the
// first level: from the second, or from memory where no page came before. A
// line is kKvLanes words.
inline constexpr int64_t kStreams = 4;
inline constexpr int64_t kNearLines = 32;
inline constexpr int64_t kLineBytes = kKvLanes * 4;

// One head of a page.
struct HeadPage {
  const KvLayout& kv;
  const std::byte* words; // as KvLayout has them
  const std::byte* next; // those of the page behind it

  int64_t lines() const {
    return kv.head_words() / kKvLanes;
  }
  // Of keys, behind them of values; of i16.
  const float* scales() const {
    return reinterpret_cast<const float*>(words + kv.head_words() * 4);
  }
};

template <int kLevel>
HWY_INLINE void fetch(uintptr_t line) {
  for (int64_t i = 0; i < kLineBytes; i += 64) {
    prefetch<kLevel>(line + i);
  }
}

// How far the next page is fetched: a line of each stream at a time, evenly
// over so many turns, so that all has been fetched after the last one. An
// address: turns may go on behind the page's end, or be fewer (where this page
// is not full, or its lines are no multiple of the streams).
class NextPage {
 public:
  HWY_INLINE NextPage() {}
  HWY_INLINE NextPage(const std::byte* page, int64_t lines, int64_t turns)
      : at_(reinterpret_cast<uintptr_t>(page)),
        apart_(lines / kStreams * kLineBytes),
        step_((lines / kStreams * kWhole + turns - 1) / turns) {}

  HWY_INLINE void take_turn() {
    part_ += step_;
    if (part_ >= kWhole) {
      part_ -= kWhole;
      HWY_UNROLL(4)
      for (int64_t s = 0; s < kStreams; ++s) {
        fetch<2>(at_ + s * apart_);
      }
      at_ += kLineBytes;
    }
  }

 private:
  static constexpr int64_t kWhole = 65536;

  uintptr_t at_ = 0;
  int64_t apart_ = 0; // streams
  int64_t step_ = 0; // for each turn, of kWhole for each fetch
  int64_t part_ = 0;
};

template <class Kv, int kRows>
using Sums = typename Kv::Sum[kRows][Kv::kVectors];

// sum[r][..] += word k of row r's factors * the words of a line.
template <class Kv, int kRows>
HWY_INLINE void add_line(
    const typename Kv::Number* const (&x)[kRows],
    int64_t k,
    const std::byte* line,
    Sums<Kv, kRows>& sum) {
  typename Kv::Vector v[Kv::kVectors];
  HWY_UNROLL(8)
  for (int c = 0; c < Kv::kVectors; ++c) {
    v[c] = Kv::load(line + c * kLanes * 4);
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    const typename Kv::Vector factor = Kv::factor(x[r] + k * Kv::kWordNumbers);
    HWY_UNROLL(8)
    for (int c = 0; c < Kv::kVectors; ++c) {
      sum[r][c].add(v[c], factor);
    }
  }
}

// sum[r][..] += word k of x[r] * line k from `word` on, for k below `n`: a line
// for each stream in one turn of the loop, since additions to addresses take
// the units that multiply.
template <class Kv, int kRows>
HWY_INLINE void add_products(
    const typename Kv::Number* const (&x)[kRows],
    int64_t n,
    const HeadPage& page,
    int64_t word,
    NextPage& next_page,
    Sums<Kv, kRows>& sum) {
  const std::byte* at = page.words + word * 4;
  const int64_t end = word / kKvLanes + n;
  const std::byte* near =
      end + kNearLines <= page.lines() ? at + kNearLines * kLineBytes : at;
  NextPage next = next_page;
  int64_t k = 0;
  for (; k + kStreams <= n; k += kStreams) {
    next.take_turn();
    HWY_UNROLL(4)
    for (int64_t s = 0; s < kStreams; ++s) {
      fetch<1>(reinterpret_cast<uintptr_t>(near + s * kLineBytes));
      add_line<Kv, kRows>(x, k + s, at + s * kLineBytes, sum);
    }
    at += kStreams * kLineBytes;
    near += kStreams * kLineBytes;
  }
  next_page = next;
  for (; k < n; ++k) {
    add_line<Kv, kRows>(x, k, at, sum);
    at += kLineBytes;
  }
}

// Queries are answered in so many batches, each of as many as the others and of
// at most kQueriesAtOnce.
HWY_INLINE int64_t batches_of(int64_t queries) {
  return (queries + kQueriesAtOnce - 1) / kQueriesAtOnce;
}

// A run's queries while they go through the pages of a span.
template <class Kv>
class SpanQueries {
 public:
  using Number = typename Kv::Number;
  static constexpr bool kRounds = Kv::kRounds;
  static constexpr int64_t kWordNumbers = Kv::kWordNumbers;
  static constexpr int64_t kLanesAtOnce = Kv::kVectors * kLanes;
  static_assert(kKvLanes % kLanesAtOnce == 0);

  SpanQueries(
      const AttentionRun& run,
      const AttentionMemory& at,
      float* memory,
      const AttentionSums& sums)
      : run_(run),
        sums_(sums),
        scores_(memory + at.scores),
        factors_(memory + at.factors),
        scales_(memory + at.scales),
        totals_(memory + at.roundings),
        largest_(totals_ + kMaxQueries),
        inverses_(largest_ + kMaxQueries),
        units_(inverses_ + kMaxQueries),
        queries_(reinterpret_cast<Number*>(memory + at.queries)),
        query_numbers_(at.query_floats * kWordNumbers),
        weights_(reinterpret_cast<Number*>(memory + at.weights)) {
    constexpr float kLog2E = 1.44269504088896341f;
    for (int64_t q = 0; q < run.count; ++q) {
      scales_[q] = run.shape->scale * kLog2E;
    }
    if constexpr (kRounds) {
      round_queries();
    }
  }

  // Adds the page at position `first`.
  void attend(const HeadPage& page, int64_t first) {
    const int64_t begin = run_.first_beyond(first);
    const int64_t queries = run_.count - begin;
    const int64_t batches = batches_of(queries);
    const int64_t rows = (queries + batches - 1) / batches;
    const int64_t tokens = run_.tokens(run_.count - 1, first);
    next_ = NextPage(
        page.next,
        page.lines(),
        kParts * batches * (page.lines() / kStreams) + queries);
    for (int64_t q = begin; q < run_.count; q += rows) {
      for_row_count<kQueriesAtOnce>(
          std::min(rows, run_.count - q),
          [&](auto n) HWY_ATTR { score_rows<n()>(page, tokens, q); });
    }
    softmax(page, first, begin);
    for (int64_t q = begin; q < run_.count; q += rows) {
      add_batch(page, first, q, std::min(rows, run_.count - q));
    }
  }

 private:
  // How often a line is read, for one batch.
  static constexpr int64_t kParts = kKvLanes / kLanesAtOnce;

  float* scores(int64_t q) const {
    return scores_ + q * kKvPageTokens;
  }

  const Number* query(int64_t q) const {
    if constexpr (kRounds) {
      return queries_ + q * query_numbers_;
    } else {
      return run_.queries[q];
    }
  }

  const Number* weights(int64_t q) const {
    if constexpr (kRounds) {
      return weights_ + q * kKvPageTokens;
    } else {
      return scores(q);
    }
  }

  // Scores, not yet scaled, of kRows queries from query `q` on, for at least
  // `tokens` positions.
  template <int kRows>
  HWY_NOINLINE void
  score_rows(const HeadPage& page, int64_t tokens, int64_t q) {
    const Number* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = query(q + r);
    }
    const Floats zero = hn::Zero(kFloats);
    for (int64_t p = 0; p < tokens; p += kLanesAtOnce) {
      Sums<Kv, kRows> sum;
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(8)
        for (int c = 0; c < Kv::kVectors; ++c) {
          sum[r][c].start(zero);
        }
      }
      add_products<Kv, kRows>(
          x, page.kv.key_words(), page, page.kv.key_word(p, 0), next_, sum);
      HWY_UNROLL(8)
      for (int c = 0; c < Kv::kVectors; ++c) {
        const int64_t at = p + c * kLanes;
        const Floats unit =
            kRounds ? hn::LoadU(kFloats, page.scales() + at) : zero;
        HWY_UNROLL(8)
        for (int r = 0; r < kRows; ++r) {
          const Floats score = sum[r][c].finish(zero, unit);
          hn::StoreU(score, kFloats, scores(q + r) + at);
        }
      }
    }
  }

  // Turns the scores of queries from `begin` on into weights, and fills in the
  // factors by which what was summed before is scaled.
  HWY_INLINE void softmax(const HeadPage& page, int64_t first, int64_t begin) {
    for (int64_t q = begin; q < run_.count; ++q) {
      factors_[q] = sums_.most[q];
      sums_.most[q] = largest_score(
          scores(q), run_.tokens(q, first), scales_[q], sums_.most[q]);
    }
    const Floats one = hn::Set(kFloats, 1.0f);
    for (int64_t q = begin / kLanes * kLanes; q < run_.count; q += kLanes) {
      const Floats factor = weight_of(
          hn::LoadU(kFloats, factors_ + q),
          one,
          hn::LoadU(kFloats, sums_.most + q));
      hn::StoreU(factor, kFloats, factors_ + q);
    }
    for (int64_t q = begin; q < run_.count; ++q) {
      const Weighing weighing{
          scores(q),
          run_.tokens(q, first),
          hn::Set(kFloats, scales_[q]),
          hn::Set(kFloats, sums_.most[q])};
      next_.take_turn();
      float* weights = sums_.weights + q * kWeightSums;
      if constexpr (kRounds) {
        weigh_scores(
            weighing,
            factors_[q],
            page.scales() + kKvPageTokens,
            weights,
            totals_[q],
            largest_[q]);
      } else {
        weigh_scores(weighing, factors_[q], weights);
      }
    }
    if constexpr (kRounds) {
      round_weights(begin);
    }
  }

  HWY_INLINE void round_queries() const {
    const int64_t n = run_.shape->kv.head_dim;
    for (int64_t q = 0; q < run_.count; ++q) {
      sum_magnitudes(run_.queries[q], n, totals_[q], largest_[q]);
    }
    choose_units(0, n);
    for (int64_t q = 0; q < run_.count; ++q) {
      scales_[q] *= units_[q];
      round_numbers(
          run_.queries[q], n, inverses_[q], queries_ + q * query_numbers_);
    }
  }

  HWY_INLINE void round_weights(int64_t begin) const {
    choose_units(begin, kKvPageTokens);
    for (int64_t q = begin; q < run_.count; ++q) {
      round_numbers(
          scores(q), kKvPageTokens, inverses_[q], weights_ + q * kKvPageTokens);
    }
  }

  // For each query from `begin` on the unit of its n numbers, and what they are
  // multiplied with to be rounded.
  HWY_INLINE void choose_units(int64_t begin, int64_t n) const {
    for (int64_t q = begin / kLanes * kLanes; q < run_.count; q += kLanes) {
      const Floats total = hn::LoadU(kFloats, totals_ + q);
      const Floats factor =
          rounding_factor(total, hn::LoadU(kFloats, largest_ + q), n);
      hn::StoreU(rounding_unit(factor, total), kFloats, units_ + q);
      hn::StoreU(factor, kFloats, inverses_ + q);
    }
  }

  // The values of a batch of queries. Integers of positions behind a query's
  // end are times a weight of zero; an f32 there may be anything, and no query
  // may see it.
  HWY_INLINE void
  add_batch(const HeadPage& page, int64_t first, int64_t q, int64_t rows) {
    const int64_t end = run_.tokens(q + rows - 1, first);
    const int64_t shared = kRounds ? end : run_.tokens(q, first);
    for_row_count<kQueriesAtOnce>(rows, [&](auto n) HWY_ATTR {
      add_values<n()>(page, factors_ + q, q, 0, shared);
    });
    const float one = 1;
    for (int64_t i = q + 1; i < q + rows && shared < end; ++i) {
      add_values<1>(page, &one, i, shared, run_.tokens(i, first));
    }
  }

  // values = factor * values + the weighted values of positions `first` to
  // `end` of the page, for kRows queries from query `q` on.
  template <int kRows>
  HWY_NOINLINE void add_values(
      const HeadPage& page,
      const float* factors,
      int64_t q,
      int64_t first,
      int64_t end) {
    const Number* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = weights(q + r) + first;
    }
    const int64_t lines = (end - first + kWordNumbers - 1) / kWordNumbers;
    const int64_t columns = sums_.columns;
    for (int64_t column = 0; column < columns; column += kLanesAtOnce) {
      float* values = sums_.values + q * columns + column;
      const auto before = [&](int r, int c) HWY_ATTR {
        return hn::Mul(
            hn::Set(kFloats, factors[r]),
            hn::LoadU(kFloats, values + r * columns + c * kLanes));
      };
      Sums<Kv, kRows> sum;
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(8)
        for (int c = 0; c < Kv::kVectors; ++c) {
          sum[r][c].start(before(r, c));
        }
      }
      const int64_t word = page.kv.value_word(first / kWordNumbers, column);
      add_products<Kv, kRows>(x, lines, page, word, next_, sum);
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        const Floats unit = hn::Set(kFloats, kRounds ? units_[q + r] : 0);
        HWY_UNROLL(8)
        for (int c = 0; c < Kv::kVectors; ++c) {
          const Floats value = sum[r][c].finish(before(r, c), unit);
          hn::StoreU(value, kFloats, values + r * columns + c * kLanes);
        }
      }
    }
  }

  const AttentionRun& run_;
  const AttentionSums& sums_;
  float* scores_; // [count, kKvPageTokens]
  float* factors_; // [count]
  float* scales_; // [count] of scores, for powers of 2
  float* totals_; // [count] of magnitudes that are rounded; i16
  float* largest_; // [count] of these
  float* inverses_; // [count] of their units
  float* units_; // [count]
  Number* queries_; // [count, query_numbers_]; i16
  int64_t query_numbers_;
  Number* weights_; // [count, kKvPageTokens]; i16
  NextPage next_;
};

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
