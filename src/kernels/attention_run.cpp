#include "kernels/attention_run.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_run.cpp"
#include "hwy/foreach_target.h"

#include "kernels/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// The page at position `first`. Behind the last page comes itself.
template <class Number>
HeadPage<Number, true>
page_at(const AttentionRun& run, int64_t first, float* scores) {
  const int64_t next = std::min(first + kKvPageTokens, run.longest() - 1);
  return {
      reinterpret_cast<const Number*>(run.head_at(first)),
      reinterpret_cast<const Number*>(run.head_at(next)),
      run.shape->kv,
      scores};
}

// The page in f32, for queries that share the work of it.
HeadPage<float, false> widen(
    const HeadPage<hwy::float16_t, true>& page,
    float* memory) {
  for (int64_t i = 0; i < page.kv.head_numbers(); i += kLanes) {
    hn::StoreU(load_numbers(page.numbers + i), kFloats, memory + i);
  }
  return {memory, nullptr, page.kv, page.scores};
}

void sum_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionMemory& at,
    float* memory,
    const AttentionSums& sums) {
  sums.clear(run.count);
  const int64_t end = std::min(first + kSpanPositions, run.longest());
  float* scores = memory + at.scores;
  float* factors = memory + at.factors;
  for (int64_t p = first; p < end; p += kKvPageTokens) {
    const int64_t begin = run.first_beyond(p);
    if (run.shape->kv.type == KvType::f32) {
      const auto page = page_at<float>(run, p, scores);
      attend_page(run, page, p, begin, factors, sums);
      continue;
    }
    const auto page = page_at<hwy::float16_t>(run, p, scores);
    if (run.count - begin > kDirectQueries) {
      const auto wide = widen(page, memory + at.page);
      attend_page(run, wide, p, begin, factors, sums);
    } else {
      attend_page(run, page, p, begin, factors, sums);
    }
  }
}

// to[i] = a * to[i] + b * from[i]
void blend(float a, float b, const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats scaled =
        hn::Mul(hn::LoadU(kFloats, to + i), hn::Set(kFloats, a));
    hn::StoreU(
        hn::MulAdd(hn::LoadU(kFloats, from + i), hn::Set(kFloats, b), scaled),
        kFloats,
        to + i);
  }
}

void add_sums(
    const AttentionRun& run,
    int64_t first,
    const AttentionSums& span,
    const AttentionSums& row) {
  const int64_t begin = run.first_beyond(first);
  HWY_ALIGN float before[kMaxQueries];
  HWY_ALIGN float added[kMaxQueries];
  for (int64_t q = begin / kLanes * kLanes; q < run.count; q += kLanes) {
    const Floats a = hn::LoadU(kFloats, row.most + q);
    const Floats b = hn::LoadU(kFloats, span.most + q);
    const Floats most = hn::Max(b, a);
    hn::Store(exp_below(a, most), kFloats, before + q);
    hn::Store(exp_below(b, most), kFloats, added + q);
    hn::StoreU(most, kFloats, row.most + q);
  }
  for (int64_t q = begin; q < run.count; ++q) {
    const int64_t c = row.columns;
    blend(
        before[q],
        added[q],
        span.weights + q * kWeightSums,
        kWeightSums,
        row.weights + q * kWeightSums);
    blend(before[q], added[q], span.values + q * c, c, row.values + q * c);
  }
}

void divide(const AttentionSums& sums, int64_t q, int64_t n, float* out) {
  SumLanes weights;
  for (int64_t p = 0; p < kSumParts; ++p) {
    weights.part[p] =
        hn::LoadU(kFloats, sums.weights + q * kWeightSums + p * kLanes);
  }
  const Floats divisor = hn::Set(kFloats, weights.sum());
  const float* values = sums.values + q * sums.columns;
  for (int64_t i = 0; i < n; i += kLanes) {
    store_up_to(
        hn::Div(hn::LoadU(kFloats, values + i), divisor), n - i, out + i);
  }
}

void divide_sums(const AttentionRun& run, const AttentionSums& row) {
  for (int64_t q = 0; q < run.count; ++q) {
    divide(row, q, run.shape->kv.head_dim, run.outs[q]);
  }
}

void attend(const AttentionRun& run, const AttentionMemory& at, float* memory) {
  const int64_t columns = run.shape->kv.columns();
  const AttentionSums row(memory + at.row, run.count, columns);
  const AttentionSums span(memory + at.span, run.count, columns);
  row.clear(run.count);
  for (int64_t p = 0; p < run.longest(); p += kSpanPositions) {
    sum_span(run, p, at, memory, span);
    add_sums(run, p, span, row);
  }
  divide_sums(run, row);
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(attend);
HWY_EXPORT(sum_span);
HWY_EXPORT(add_sums);
HWY_EXPORT(divide_sums);

void attend_run(
    const AttentionRun& run,
    const AttentionMemory& at,
    float* memory) {
  HWY_DYNAMIC_DISPATCH(attend)(run, at, memory);
}

void attend_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionMemory& at,
    float* memory,
    const AttentionSums& sums) {
  HWY_DYNAMIC_DISPATCH(sum_span)(run, first, at, memory, sums);
}

void add_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionSums& span,
    const AttentionSums& row) {
  HWY_DYNAMIC_DISPATCH(add_sums)(run, first, span, row);
}

void finish_run(const AttentionRun& run, const AttentionSums& row) {
  HWY_DYNAMIC_DISPATCH(divide_sums)(run, row);
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
