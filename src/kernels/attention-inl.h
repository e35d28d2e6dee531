// Attention of a run of queries to one page.
//
// The order of operations for each query:
//   score[p] = scale * sum; sum = key[p][i] * query[i] + sum for each i
//   most = max(most, all score[p]); factor = exp(old most - most)
//   weight[p] = exp(score[p] - most)
//   weights[j] = factor * weights[j], then + weight[p] for each p with
//     p % kWeightSums = j
//   values[c] = factor * values[c], then + value[p][c] * weight[p] for each p
// where + of a product is fused on targets that have it. A lane is a position
// or a column, so neither the size of the vectors nor the other queries take
// part in it.

#if defined(MLX_FLASH_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_ATTENTION_INL_H_
#undef MLX_FLASH_KERNELS_ATTENTION_INL_H_
#else
#define MLX_FLASH_KERNELS_ATTENTION_INL_H_
#endif

#include <limits>

#include "kernels/attention_run.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

static_assert(kWeightSums == kSumLanes);

// Queries at once, and vectors of positions or columns: their sums, those
// vectors and a factor fit the registers.
inline constexpr int kQueriesAtOnce = kLanes == 16 ? 8
    : kLanes == 8 || HWY_ARCH_ARM_A64              ? 6
                                                   : 2;
inline constexpr int kVectorsAtOnce =
    kLanes == 16 ? 2 : static_cast<int>(kSumParts);
inline constexpr int64_t kLanesAtOnce = kVectorsAtOnce * kLanes;
static_assert(kKvLanes % kLanesAtOnce == 0);

// More queries than so many share a copy of the page in f32; for fewer its
// numbers are converted each time they are used, by one instruction or by many.
inline constexpr int64_t kDirectQueries =
    kLanes >= 8 || HWY_ARCH_ARM_A64 ? 24 : kQueriesAtOnce;

// Attention reads a page from end to end. With each kKvLanes of its numbers,
// called a line here, it fetches one of the next page into the second-level
// cache: of that page's quarters in turn, since memory gives several streams
// faster than one. And the line so many later of its own page into the first
// level: from the second, or from memory where no page came before. Who reads a
// line again, for more queries or with shorter vectors, fetches again, which is
// as fast as deciding.
inline constexpr int64_t kStreams = 4;
inline constexpr int64_t kNearLines = 64;

// One head of a page: of the context, whose next page is fetched meanwhile, or
// a copy in f32.
template <class Stored, bool kOfContext>
struct HeadPage {
  using Number = Stored;
  static constexpr bool kFetches = kOfContext;

  const Number* numbers; // as KvLayout has them
  const Number* next; // those of the page behind it
  const KvLayout& kv;
  float* scores; // [queries, kKvPageTokens]

  int64_t lines() const {
    return kv.head_numbers() / kKvLanes;
  }
};

HWY_INLINE Floats load_numbers(const float* from) {
  return hn::LoadU(kFloats, from);
}
HWY_INLINE Floats load_numbers(const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, FloatTag> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, from));
}

template <int kLevel, class Number>
HWY_INLINE void fetch(const Number* line) {
  constexpr int64_t kCacheLine = 64 / sizeof(Number);
  for (int64_t i = 0; i < kKvLanes; i += kCacheLine) {
    prefetch<kLevel>(reinterpret_cast<uintptr_t>(line + i));
  }
}

// sum[r][..] += factor k of row r * the numbers of a line.
template <int kRows, class Number>
HWY_INLINE void add_line(
    const float* const (&x)[kRows],
    int64_t k,
    const Number* line,
    Floats (&sum)[kRows][kVectorsAtOnce]) {
  Floats v[kVectorsAtOnce];
  HWY_UNROLL(8)
  for (int c = 0; c < kVectorsAtOnce; ++c) {
    v[c] = load_numbers(line + c * kLanes);
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    const Floats factor = hn::Set(kFloats, x[r][k]);
    HWY_UNROLL(8)
    for (int c = 0; c < kVectorsAtOnce; ++c) {
      sum[r][c] = hn::MulAdd(v[c], factor, sum[r][c]);
    }
  }
}

// sum[r][..] += x[r][k] * line k from `place` on, for k below `n`: a line of
// each stream after the other, since additions to addresses take the units that
// multiply.
template <int kRows, class Page>
HWY_INLINE void add_products(
    const float* const (&x)[kRows],
    int64_t n,
    const Page& page,
    int64_t place,
    Floats (&sum)[kRows][kVectorsAtOnce]) {
  const typename Page::Number* numbers = page.numbers + place;
  const int64_t line = place / kKvLanes;
  const auto* near = numbers;
  const auto* next = page.next;
  const int64_t apart = page.lines() / kStreams * kKvLanes;
  if constexpr (Page::kFetches) {
    near += line + n + kNearLines <= page.lines() ? kNearLines * kKvLanes : 0;
    next += line / kStreams * kKvLanes;
  }
  int64_t k = 0;
  for (; k + kStreams <= n; k += kStreams) {
    HWY_UNROLL(4)
    for (int64_t s = 0; s < kStreams; ++s) {
      if constexpr (Page::kFetches) {
        fetch<2>(next + s * apart);
        fetch<1>(near + s * kKvLanes);
      }
      add_line(x, k + s, numbers + s * kKvLanes, sum);
    }
    numbers += kStreams * kKvLanes;
    if constexpr (Page::kFetches) {
      near += kStreams * kKvLanes;
      next += kKvLanes;
    }
  }
  for (; k < n; ++k) {
    add_line(x, k, numbers, sum);
    numbers += kKvLanes;
  }
}

// Scores, not yet scaled, of kRows queries from query `q` on, for at least
// `tokens` positions.
template <int kRows, class Page>
HWY_NOINLINE void score_rows(
    const AttentionRun& run,
    const Page& page,
    int64_t tokens,
    int64_t q) {
  const float* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = run.queries[q + r];
  }
  for (int64_t p = 0; p < tokens; p += kLanesAtOnce) {
    Floats sum[kRows][kVectorsAtOnce];
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (int c = 0; c < kVectorsAtOnce; ++c) {
        sum[r][c] = hn::Zero(kFloats);
      }
    }
    add_products(x, page.kv.head_dim, page, page.kv.key_place(p, 0), sum);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      float* to = page.scores + (q + r) * kKvPageTokens + p;
      HWY_UNROLL(8)
      for (int c = 0; c < kVectorsAtOnce; ++c) {
        hn::StoreU(sum[r][c], kFloats, to + c * kLanes);
      }
    }
  }
}

// values = factor * values + the weighted values of positions `first` to `end`
// of the page, for kRows queries from query `q` on.
template <int kRows, class Page>
HWY_NOINLINE void add_values(
    const Page& page,
    const float* factors,
    int64_t q,
    int64_t first,
    int64_t end,
    const AttentionSums& sums) {
  const int64_t columns = sums.columns;
  const float* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = page.scores + (q + r) * kKvPageTokens + first;
  }
  for (int64_t column = 0; column < columns; column += kLanesAtOnce) {
    float* values = sums.values + q * columns + column;
    Floats sum[kRows][kVectorsAtOnce];
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = hn::Set(kFloats, factors[r]);
      HWY_UNROLL(8)
      for (int c = 0; c < kVectorsAtOnce; ++c) {
        sum[r][c] = hn::Mul(
            factor, hn::LoadU(kFloats, values + r * columns + c * kLanes));
      }
    }
    const int64_t place = page.kv.value_place(first, column);
    add_products(x, end - first, page, place, sum);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (int c = 0; c < kVectorsAtOnce; ++c) {
        hn::StoreU(sum[r][c], kFloats, values + r * columns + c * kLanes);
      }
    }
  }
}

// exp(x - most) for x <= most, with a relative error below 2e-7; 0 below
// exp(-86), which no sum of weights feels, as the largest is 1. NaN for NaN.
// As exp_lanes() (kernels/simd-inl.h), less what larger arguments need.
HWY_INLINE Floats exp_below(Floats x, Floats most) {
  const Floats d = hn::Sub(x, most);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the last bits.
  const Floats magic = hn::Set(kFloats, 12582912.0f);
  const Floats rounded =
      hn::MulAdd(d, hn::Set(kFloats, 1.44269504088896341f), magic);
  const Floats n = hn::Sub(rounded, magic);
  const Floats p = exp_near_zero(d, n);
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(kInts, rounded));
  const Floats result =
      hn::BitCast(kFloats, hn::Add(hn::BitCast(kInts, p), exponent));
  const auto small = hn::Lt(d, hn::Set(kFloats, -86.0f));
  return hn::IfThenElse(hn::Eq(d, d), hn::IfThenZeroElse(small, result), d);
}

// Scales the n scores, and makes those behind them up to a whole kWeightSums
// -inf; returns the largest, or `most` if that is larger.
HWY_INLINE float scale_scores(float scale, int64_t n, float most, float* x) {
  const Floats factor = hn::Set(kFloats, scale);
  const Floats least =
      hn::Set(kFloats, -std::numeric_limits<float>::infinity());
  Floats largest = hn::Set(kFloats, most);
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Floats score = hn::Mul(factor, hn::LoadU(kFloats, x + i));
    hn::StoreU(score, kFloats, x + i);
    largest = hn::Max(score, largest);
  }
  for (int64_t i = whole; i < n || i % kWeightSums != 0; i += kLanes) {
    const auto left = static_cast<size_t>(std::max<int64_t>(n - i, 0));
    const Floats score = hn::IfThenElse(
        hn::FirstN(kFloats, left),
        hn::Mul(factor, hn::LoadU(kFloats, x + i)),
        least);
    hn::StoreU(score, kFloats, x + i);
    largest = hn::Max(score, largest);
  }
  return hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

// x[p] = exp(x[p] - most), added to factor * weights.
HWY_INLINE void
weigh_scores(float most, float factor, int64_t n, float* x, float* weights) {
  const Floats m = hn::Set(kFloats, most);
  for (int64_t p = 0; p < kWeightSums; p += kLanes) {
    Floats sum =
        hn::Mul(hn::Set(kFloats, factor), hn::LoadU(kFloats, weights + p));
    for (int64_t i = p; i < n; i += kWeightSums) {
      const Floats weight = exp_below(hn::LoadU(kFloats, x + i), m);
      hn::StoreU(weight, kFloats, x + i);
      sum = hn::Add(sum, weight);
    }
    hn::StoreU(sum, kFloats, weights + p);
  }
}

// Turns the scores of queries from `begin` on into weights, and fills in the
// factors by which what was summed before is scaled.
HWY_INLINE void softmax_page(
    const AttentionRun& run,
    int64_t first,
    int64_t begin,
    float* scores,
    float* factors,
    const AttentionSums& sums) {
  for (int64_t q = begin; q < run.count; ++q) {
    factors[q] = sums.most[q];
    sums.most[q] = scale_scores(
        run.shape->scale,
        run.tokens(q, first),
        sums.most[q],
        scores + q * kKvPageTokens);
  }
  for (int64_t q = begin / kLanes * kLanes; q < run.count; q += kLanes) {
    const Floats factor = exp_below(
        hn::LoadU(kFloats, factors + q), hn::LoadU(kFloats, sums.most + q));
    hn::StoreU(factor, kFloats, factors + q);
  }
  for (int64_t q = begin; q < run.count; ++q) {
    weigh_scores(
        sums.most[q],
        factors[q],
        run.tokens(q, first),
        scores + q * kKvPageTokens,
        sums.weights + q * kWeightSums);
  }
}

// Queries of a batch that are as many as the others', at most kQueriesAtOnce.
HWY_INLINE int64_t batch_rows(int64_t queries) {
  const int64_t batches = (queries + kQueriesAtOnce - 1) / kQueriesAtOnce;
  return (queries + batches - 1) / batches;
}

// Adds the page at position `first` to the sums of queries from `begin` on.
template <class Page>
void attend_page(
    const AttentionRun& run,
    const Page& page,
    int64_t first,
    int64_t begin,
    float* factors,
    const AttentionSums& sums) {
  const int64_t rows = batch_rows(run.count - begin);
  const int64_t tokens = run.tokens(run.count - 1, first);
  for (int64_t q = begin; q < run.count; q += rows) {
    for_row_count<kQueriesAtOnce>(
        std::min(rows, run.count - q),
        [&](auto n) HWY_ATTR { score_rows<n()>(run, page, tokens, q); });
  }
  softmax_page(run, first, begin, page.scores, factors, sums);
  const float one = 1;
  for (int64_t q = begin; q < run.count; q += rows) {
    const int64_t batch = std::min(rows, run.count - q);
    const int64_t shared = run.tokens(q, first);
    for_row_count<kQueriesAtOnce>(batch, [&](auto n) HWY_ATTR {
      add_values<n()>(page, factors + q, q, 0, shared, sums);
    });
    // No query sees a value past its own end, not even with a weight of zero.
    for (int64_t i = q + 1; i < q + batch; ++i) {
      const int64_t end = run.tokens(i, first);
      if (end > shared) {
        add_values<1>(page, &one, i, shared, end, sums);
      }
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
