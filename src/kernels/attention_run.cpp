#include "kernels/attention_run.h"

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_run.cpp"
#include "hwy/foreach_target.h"

#include "kernels/attention-inl.h"
#include "kernels/byte_dot.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// The page at position `first`. Behind the last page comes itself.
HeadPage page_at(const AttentionRun& run, int64_t first) {
  const int64_t next = std::min(first + kKvPageTokens, run.longest() - 1);
  return {run.shape->kv, run.head_at(first), run.head_at(next)};
}

template <class Kv>
void sum_pages(
    const AttentionRun& run,
    int64_t first,
    const AttentionMemory& at,
    float* memory,
    const AttentionSums& sums) {
  sums.clear(run.count);
  SpanQueries<Kv> queries(run, at, memory, sums);
  const int64_t end = std::min(first + kSpanPositions, run.longest());
  for (int64_t p = first; p < end; p += kKvPageTokens) {
    queries.attend(page_at(run, p), p);
  }
}

void sum_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionMemory& at,
    float* memory,
    const AttentionSums& sums) {
  if (run.shape->kv.type == KvType::f32) {
    return sum_pages<F32Kv>(run, first, at, memory, sums);
  }
#if MLX_FLASH_HAVE_PAIR_DOT
  if (uses_byte_dot(kVectorBits)) {
    return sum_pages<I16Kv<PairDotSum>>(run, first, at, memory, sums);
  }
#endif
  sum_pages<I16Kv<PairSum>>(run, first, at, memory, sums);
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
  const Floats one = hn::Set(kFloats, 1.0f);
  for (int64_t q = begin / kLanes * kLanes; q < run.count; q += kLanes) {
    const Floats a = hn::LoadU(kFloats, row.most + q);
    const Floats b = hn::LoadU(kFloats, span.most + q);
    const Floats most = hn::Max(b, a);
    hn::Store(weight_of(a, one, most), kFloats, before + q);
    hn::Store(weight_of(b, one, most), kFloats, added + q);
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
