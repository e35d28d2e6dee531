#include "kernels/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/attention_run.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cpp"
#include "hwy/foreach_target.h"

#include "kernels/panel-inl.h"
#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

void scale_scores(const float* from, float scale, int64_t n, float* to) {
  const Floats factor = hn::Set(kFloats, scale);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats score = load_up_to(from + i, n - i, 0);
    store_up_to(hn::Mul(score, factor), n - i, to + i);
  }
}

// scores[q][p] = scale * (query q . key p): a matrix product in which a page's
// keys are the weights, so that each score has a lane and an order of its own.
void score_keys(
    const AttentionRun& run,
    const AttentionMemory& at,
    float* memory) {
  const AttentionShape& shape = *run.shape;
  const int64_t longest = run.longest();
  const int64_t tile = product_tile();
  Matrix keys;
  keys.in = shape.head_dim;
  ProductTask task;
  task.w = &keys;
  task.x = run.queries;
  task.rows = run.count;
  task.out = memory + at.tile_scores;
  task.memory = memory + at.product;
  for (int64_t page = 0; page < longest; page += shape.page_tokens) {
    const KvPage& kv = run.pages[page / shape.page_tokens];
    keys.weight = reinterpret_cast<const std::byte*>(run.head_of(kv.keys));
    keys.out = run.tokens_in_page(page);
    for (task.first = 0; task.first < keys.out; task.first += tile) {
      multiply_tile(task);
      const int64_t n = std::min(tile, keys.out - task.first);
      float* to = memory + at.scores + page + task.first;
      for (int64_t q = 0; q < run.count; ++q) {
        scale_scores(
            task.out + q * tile, shape.scale, n, to + q * at.score_stride);
      }
    }
  }
}

// x[i] = exp(x[i] - the largest of them); returns their sum.
float exponentiate(float* x, int64_t n) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  const float most = maximum(x, n);
  SumLanes sums;
  for (int64_t i = 0; i < n; i += kSumLanes) {
    for (int64_t p = 0; p < kSumParts; ++p) {
      const int64_t at = i + p * kLanes;
      if (at < n) {
        Floats e = exp_above(load_up_to(x + at, n - at, kLeast), most);
        store_up_to(e, n - at, x + at);
        if (n - at < kLanes) {
          e = load_some(x + at, n - at, 0);
        }
        sums.part[p] = hn::Add(sums.part[p], e);
      }
    }
  }
  return sums.sum();
}

// totals[r][c] += the sum over p below `n` of weights[r][p] * values[p][c], for
// kColumns vectors of columns.
template <int kRows, int kColumns, class Tag>
HWY_INLINE void add_value_columns(
    Tag tag,
    const float* const (&weights)[kRows],
    int64_t n,
    const float* values,
    int64_t head_dim,
    float* totals) {
  constexpr int64_t kSize = hn::MaxLanes(tag);
  hn::Vec<Tag> sum[kRows][kColumns];
  sum_panel<kRows, kColumns>(tag, weights, n, values, head_dim, sum);
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (int c = 0; c < kColumns; ++c) {
      float* total = totals + r * head_dim + c * kSize;
      hn::StoreU(hn::Add(hn::LoadU(tag, total), sum[r][c]), tag, total);
    }
  }
}

// The same for all columns. `weights` has kRows rows of `stride` floats.
template <int kRows>
HWY_NOINLINE void add_values(
    const float* weights,
    int64_t stride,
    int64_t n,
    const float* values,
    int64_t head_dim,
    float* totals) {
  const float* rows[kRows];
  for (int r = 0; r < kRows; ++r) {
    rows[r] = weights + r * stride;
  }
  int64_t c = 0;
  for (; c + 2 * kLanes <= head_dim; c += 2 * kLanes) {
    add_value_columns<kRows, 2>(
        kFloats, rows, n, values + c, head_dim, totals + c);
  }
  for (; c + kLanes <= head_dim; c += kLanes) {
    add_value_columns<kRows, 1>(
        kFloats, rows, n, values + c, head_dim, totals + c);
  }
  const hn::CappedTag<float, 1> one;
  for (; c < head_dim; ++c) {
    add_value_columns<kRows, 1>(one, rows, n, values + c, head_dim, totals + c);
  }
}

void add_values_to_all(
    int64_t queries,
    const float* weights,
    int64_t stride,
    int64_t n,
    const float* values,
    int64_t head_dim,
    float* totals) {
  for (; queries >= 4; queries -= 4) {
    add_values<4>(weights, stride, n, values, head_dim, totals);
    weights += 4 * stride;
    totals += 4 * head_dim;
  }
  switch (queries) {
    case 1:
      return add_values<1>(weights, stride, n, values, head_dim, totals);
    case 2:
      return add_values<2>(weights, stride, n, values, head_dim, totals);
    case 3:
      return add_values<3>(weights, stride, n, values, head_dim, totals);
  }
}

// totals[q] = the sum of the values at positions below `length`, weighted, for
// queries of one length: none sees a value past its own end, not even with a
// weight of zero. Blocks of kBlock positions, counted from a page's start, are
// summed first.
void weigh_values(
    const AttentionRun& run,
    const AttentionMemory& at,
    int64_t first_query,
    int64_t queries,
    float* memory) {
  const AttentionShape& shape = *run.shape;
  const int64_t length = run.lengths[first_query];
  float* totals = memory + at.totals + first_query * shape.head_dim;
  std::fill_n(totals, queries * shape.head_dim, 0.0f);
  const float* weights = memory + at.scores + first_query * at.score_stride;
  for (int64_t page = 0; page < length; page += shape.page_tokens) {
    const float* values =
        run.head_of(run.pages[page / shape.page_tokens].values);
    const int64_t tokens = std::min(shape.page_tokens, length - page);
    for (int64_t p = 0; p < tokens; p += kBlock) {
      add_values_to_all(
          queries,
          weights + page + p,
          static_cast<int64_t>(at.score_stride),
          std::min(kBlock, tokens - p),
          values + p * shape.head_dim,
          shape.head_dim,
          totals);
    }
  }
}

void divide(const float* x, float divisor, int64_t n, float* out) {
  const Floats d = hn::Set(kFloats, divisor);
  for (int64_t i = 0; i < n; i += kLanes) {
    store_up_to(hn::Div(load_up_to(x + i, n - i, 0), d), n - i, out + i);
  }
}

void attend(const AttentionRun& run, const AttentionMemory& at, float* memory) {
  score_keys(run, at, memory);
  float sums[kMaxQueries];
  for (int64_t q = 0; q < run.count; ++q) {
    sums[q] =
        exponentiate(memory + at.scores + q * at.score_stride, run.lengths[q]);
  }
  for (int64_t q = 0; q < run.count;) {
    int64_t next = q + 1;
    while (next < run.count && run.lengths[next] == run.lengths[q]) {
      ++next;
    }
    weigh_values(run, at, q, next - q, memory);
    q = next;
  }
  const int64_t head_dim = run.shape->head_dim;
  for (int64_t q = 0; q < run.count; ++q) {
    divide(memory + at.totals + q * head_dim, sums[q], head_dim, run.outs[q]);
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlx_flash::kernels {

HWY_EXPORT(attend);

namespace {

// A thread is woken for at least this many products.
constexpr int64_t kProductsPerChunk = 32768;

// How the work is cut into tasks of some rows and some heads of one group.
// More queries at once read the keys fewer times; but every thread should have
// a task.
struct Cut {
  int64_t group;
  int64_t rows_per_task;
  int64_t heads_per_task;
  int64_t row_blocks;
  int64_t head_blocks;

  Cut(const AttentionShape& shape, int64_t rows, int threads)
      : group(shape.heads / shape.kv_heads),
        rows_per_task(std::max<int64_t>(1, kMaxQueries / group)),
        heads_per_task(std::min(group, kMaxQueries)) {
    count(rows);
    while (tasks(shape) < 2 * threads && rows_per_task > 1) {
      rows_per_task = (rows_per_task + 1) / 2;
      count(rows);
    }
    while (tasks(shape) < threads && heads_per_task > 1) {
      heads_per_task = (heads_per_task + 1) / 2;
      count(rows);
    }
  }

  void count(int64_t rows) {
    row_blocks = (rows + rows_per_task - 1) / rows_per_task;
    head_blocks = (group + heads_per_task - 1) / heads_per_task;
  }

  int64_t tasks(const AttentionShape& shape) const {
    return row_blocks * head_blocks * shape.kv_heads;
  }
};

int64_t longest_row(std::span<const AttentionRow> rows) {
  int64_t longest = 0;
  for (const auto& row : rows) {
    longest = std::max(longest, row.length);
  }
  return longest;
}

// Rows that adjoin and share their pages are one run.
void attend_rows(
    const AttentionShape& shape,
    std::span<const AttentionRow> rows,
    int64_t kv_head,
    int64_t first_head,
    int64_t heads,
    const AttentionMemory& at,
    float* memory) {
  for (size_t r = 0; r < rows.size();) {
    AttentionRun run;
    run.shape = &shape;
    run.kv_head = kv_head;
    run.pages = rows[r].pages;
    for (; r < rows.size() && rows[r].pages == run.pages; ++r) {
      for (int64_t h = first_head; h < first_head + heads; ++h) {
        run.queries[run.count] = rows[r].query + h * shape.head_dim;
        run.outs[run.count] = rows[r].out + h * shape.head_dim;
        run.lengths[run.count] = rows[r].length;
        ++run.count;
      }
    }
    HWY_DYNAMIC_DISPATCH(attend)(run, at, memory);
  }
}

} // namespace

size_t attention_scratch_floats(
    const AttentionShape& shape,
    int64_t longest,
    int threads) {
  return AttentionMemory(shape, longest).all * static_cast<size_t>(threads);
}

void attention(
    ThreadPool& pool,
    Scratch& scratch,
    const AttentionShape& shape,
    std::span<const AttentionRow> rows) {
  MLX_FLASH_CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0);
  MLX_FLASH_CHECK(shape.head_dim >= 1 && shape.page_tokens >= 1);
  if (rows.empty()) {
    return;
  }
  const int64_t longest = longest_row(rows);
  const AttentionMemory at(shape, longest);
  float* memory = scratch.reserve(at.all * static_cast<size_t>(pool.threads()));
  const auto count = static_cast<int64_t>(rows.size());
  const Cut cut(shape, count, pool.threads());
  const auto body = [&](int64_t begin, int64_t end, int worker) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r =
          t / (shape.kv_heads * cut.head_blocks) * cut.rows_per_task;
      const int64_t kv_head = t / cut.head_blocks % shape.kv_heads;
      const int64_t h = t % cut.head_blocks * cut.heads_per_task;
      attend_rows(
          shape,
          rows.subspan(r, std::min(cut.rows_per_task, count - r)),
          kv_head,
          kv_head * cut.group + h,
          std::min(cut.heads_per_task, cut.group - h),
          at,
          memory + worker * at.all);
    }
  };
  const int64_t products_per_task =
      2 * longest * shape.head_dim * cut.rows_per_task * cut.heads_per_task;
  pool.parallel_for(
      cut.tasks(shape), 1 + kProductsPerChunk / products_per_task, body);
}

void append_kv(
    const AttentionShape& shape,
    const KvPage* pages,
    int64_t position,
    const float* keys,
    const float* values) {
  const KvPage& page = pages[position / shape.page_tokens];
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  for (int64_t h = 0; h < shape.kv_heads; ++h) {
    const int64_t at =
        (h * shape.page_tokens + position % shape.page_tokens) * shape.head_dim;
    std::memcpy(page.keys + at, keys + h * shape.head_dim, bytes);
    std::memcpy(page.values + at, values + h * shape.head_dim, bytes);
  }
}

} // namespace mlx_flash::kernels
#endif // HWY_ONCE
