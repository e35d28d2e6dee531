#include "kernels/attention.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/attention_run.h"

namespace mlx_flash::kernels {

namespace {

// A thread is woken for at least this many products.
constexpr int64_t kProductsPerChunk = 32768;

// With fewer tasks than so many for each thread, and of one row each, the spans
// of a row are tasks of their own: so many of each row at a time, which bounds
// the memory of their sums.
constexpr int64_t kFewTasks = 4;
constexpr int64_t kWaveSpans = 8;

int64_t group_of(const AttentionShape& shape) {
  return shape.heads / shape.kv.kv_heads;
}

// How the work is cut into tasks of some rows and some heads of one group.
// More queries at once read the keys fewer times; but every thread should have
// tasks.
struct Cut {
  int64_t kv_heads;
  int64_t group;
  int64_t heads_per_task;
  int64_t head_blocks;
  int64_t rows_per_task;

  Cut(const AttentionShape& shape, int64_t rows, int threads)
      : kv_heads(shape.kv.kv_heads),
        group(group_of(shape)),
        heads_per_task(std::min(group, kMaxQueries)),
        head_blocks((group + heads_per_task - 1) / heads_per_task),
        rows_per_task(std::clamp<int64_t>(kMaxQueries / group, 1, rows)) {
    while (tasks(rows) < 2 * threads && rows_per_task > 1) {
      rows_per_task = (rows_per_task + 1) / 2;
    }
  }

  int64_t tasks(int64_t rows) const {
    return (rows + rows_per_task - 1) / rows_per_task * kv_heads * head_blocks;
  }
  int64_t first_row(int64_t task) const {
    return task / (kv_heads * head_blocks) * rows_per_task;
  }
  int64_t kv_head(int64_t task) const {
    return task / head_blocks % kv_heads;
  }
  int64_t first_head(int64_t task) const {
    return kv_head(task) * group + task % head_blocks * heads_per_task;
  }
  int64_t heads(int64_t task) const {
    return std::min(
        heads_per_task, group - task % head_blocks * heads_per_task);
  }
};

// Rows to attend for, and what the tasks share.
struct Work {
  const AttentionShape& shape;
  std::span<const AttentionRow> rows;
  int64_t longest;
  Cut cut;
  AttentionMemory at;
  float* memory; // of all workers, then sums of spans

  int64_t tasks() const {
    return cut.tasks(static_cast<int64_t>(rows.size()));
  }

  float* worker(int number) const {
    return memory + static_cast<size_t>(number) * at.all;
  }

  // The task's queries of the rows from `r` on, below `end`, that adjoin, share
  // their pages and become no shorter. Moves r behind them.
  AttentionRun next_run(int64_t task, size_t& r, size_t end) const {
    AttentionRun run;
    run.shape = &shape;
    run.kv_head = cut.kv_head(task);
    run.pages = rows[r].pages;
    const int64_t first = cut.first_head(task);
    int64_t length = 0;
    for (; r < end && rows[r].pages == run.pages && rows[r].length >= length;
         ++r) {
      length = rows[r].length;
      for (int64_t h = first; h < first + cut.heads(task); ++h) {
        run.queries[run.count] = rows[r].query + h * shape.kv.head_dim;
        run.outs[run.count] = rows[r].out + h * shape.kv.head_dim;
        run.lengths[run.count] = length;
        ++run.count;
      }
    }
    return run;
  }

  void attend(int64_t task, int worker_number) const {
    auto r = static_cast<size_t>(cut.first_row(task));
    const size_t end =
        std::min(r + static_cast<size_t>(cut.rows_per_task), rows.size());
    while (r < end) {
      attend_run(next_run(task, r, end), at, worker(worker_number));
    }
  }
};

void attend_tasks(const Work& work, ThreadPool& pool) {
  const auto body = [&](int64_t begin, int64_t end, int worker) {
    for (int64_t t = begin; t < end; ++t) {
      work.attend(t, worker);
    }
  };
  MLX_FLASH_CHECK(work.longest >= 1);
  const int64_t products = 2 * work.longest * work.shape.kv.head_dim *
      work.cut.rows_per_task * work.cut.heads_per_task;
  pool.parallel_for(work.tasks(), 1 + kProductsPerChunk / products, body);
}

// Of one task.
size_t sums_floats(const AttentionShape& shape) {
  return padded_floats(static_cast<int64_t>(AttentionSums::floats(
      std::min(group_of(shape), kMaxQueries), shape.kv.columns())));
}

// Tasks of one row each, cut into spans. Sums are added in the order of the
// spans, whoever computed them.
struct SpanWork {
  const Work& work;
  float* memory; // [tasks, kWaveSpans + 1] sums; the last ones are the row's

  AttentionRun run(int64_t task) const {
    auto r = static_cast<size_t>(work.cut.first_row(task));
    return work.next_run(task, r, r + 1);
  }

  AttentionSums sums(int64_t task, int64_t place, int64_t queries) const {
    const auto number = static_cast<size_t>(task * (kWaveSpans + 1) + place);
    return {
        memory + number * sums_floats(work.shape),
        queries,
        work.shape.kv.columns()};
  }

  void attend(int64_t task, int64_t span, int worker) const {
    const AttentionRun queries = run(task);
    const int64_t first = span * kSpanPositions;
    if (first < queries.longest()) {
      attend_span(
          queries,
          first,
          work.at,
          work.worker(worker),
          sums(task, span % kWaveSpans, queries.count));
    }
  }

  void add_wave(int64_t task, int64_t wave) const {
    const AttentionRun queries = run(task);
    const AttentionSums row = sums(task, kWaveSpans, queries.count);
    if (wave == 0) {
      row.clear(queries.count);
    }
    for (int64_t s = 0; s < kWaveSpans; ++s) {
      const int64_t first = (wave * kWaveSpans + s) * kSpanPositions;
      if (first < queries.longest()) {
        add_span(queries, first, sums(task, s, queries.count), row);
      }
    }
    finish_run(queries, row); // again after each wave; the last one stays
  }
};

void attend_spans(const Work& work, ThreadPool& pool) {
  const SpanWork spans{work, work.worker(pool.threads())};
  const int64_t tasks = work.tasks();
  constexpr int64_t kWave = kWaveSpans * kSpanPositions;
  for (int64_t wave = 0; wave * kWave < work.longest; ++wave) {
    const auto attend = [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t span = wave * kWaveSpans + i % kWaveSpans;
        spans.attend(i / kWaveSpans, span, worker);
      }
    };
    const auto add = [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        spans.add_wave(t, wave);
      }
    };
    pool.parallel_for(tasks * kWaveSpans, 1, attend);
    pool.parallel_for(tasks, 1, add);
  }
}

bool has_few_tasks(const Work& work, int threads) {
  return threads > 1 && work.cut.rows_per_task == 1 &&
      work.tasks() < kFewTasks * threads && work.longest > kSpanPositions;
}

int64_t longest_row(std::span<const AttentionRow> rows) {
  int64_t longest = 0;
  for (const auto& row : rows) {
    longest = std::max(longest, row.length);
  }
  return longest;
}

} // namespace

size_t attention_scratch_floats(const AttentionShape& shape, int threads) {
  const auto n = static_cast<size_t>(threads);
  const size_t spans = threads > 1 ? kFewTasks * n * (kWaveSpans + 1) : 0;
  return n * AttentionMemory(shape.kv).all + spans * sums_floats(shape);
}

void attention(
    ThreadPool& pool,
    Scratch& scratch,
    const AttentionShape& shape,
    std::span<const AttentionRow> rows) {
  const KvLayout& kv = shape.kv;
  MLX_FLASH_CHECK(kv.kv_heads >= 1 && shape.heads % kv.kv_heads == 0);
  MLX_FLASH_CHECK(kv.head_dim >= 1 && kv.head_dim <= kMostHeadDim);
  MLX_FLASH_CHECK(shape.scale >= 0);
  if (rows.empty()) {
    return;
  }
  const auto count = static_cast<int64_t>(rows.size());
  const int threads = pool.threads();
  const Work work{
      shape,
      rows,
      longest_row(rows),
      Cut(shape, count, threads),
      AttentionMemory(kv),
      scratch.reserve(attention_scratch_floats(shape, threads))};
  if (has_few_tasks(work, threads)) {
    attend_spans(work, pool);
  } else {
    attend_tasks(work, pool);
  }
}

} // namespace mlx_flash::kernels
