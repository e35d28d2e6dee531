#include "kernels/expert_mlp.h"

#include "kernels/product_tasks.h"

namespace mlx_flash::kernels {
namespace {

// Rows that are computed together, unless one expert has more: what lies
// between the products should stay in the second-level cache.
constexpr int64_t kBatchRows = 256;

void check(const Expert& expert) {
  const auto& [gate, up, down] = expert;
  check(gate);
  check(up);
  check(down);
  MLX_FLASH_CHECK(up.in == gate.in && up.out == gate.out);
  MLX_FLASH_CHECK(down.in == gate.out);
}

// The memory of a batch of `rows` rows, in floats from its start.
struct BatchMemory {
  size_t inner = 0; // [rows, inner]: silu(gate(x)) * up(x)
  size_t prepared; // inner, made ready for down
  size_t workers;
  size_t worker_floats;
  size_t result_floats;
  size_t all;

  BatchMemory(
      const Expert& form,
      Precision precision,
      int64_t rows,
      int64_t task_rows,
      int threads) {
    prepared = inner + padded_floats(rows * form.gate.out);
    workers = prepared + prepared_floats(form.down, precision, rows);
    result_floats = padded_floats(rows_per_task(task_rows) * product_tile());
    const size_t product = std::max(
        {product_memory_floats(form.down),
         product_memory_floats(form.gate),
         product_memory_floats(form.up)});
    // Gate and up are computed beside each other and need one result each.
    worker_floats = 2 * result_floats + product;
    all = workers + worker_floats * static_cast<size_t>(threads);
  }
};

// Experts whose rows follow each other in the batch's memory.
class ExpertBatch {
 public:
  ExpertBatch(
      ThreadPool& pool,
      Precision precision,
      const ExpertInputs& inputs,
      std::span<const ExpertTask> tasks)
      : pool_(pool),
        precision_(precision),
        inputs_(inputs),
        tasks_(tasks),
        form_(tasks.front().expert),
        rows_(rows_of(tasks)),
        at_(form_, precision, rows_, most_rows(tasks), pool.threads()) {}

  size_t memory_floats() const {
    return at_.all;
  }

  void run(float* memory) {
    memory_ = memory;
    for_each_tile(
        form_.gate, [&](const auto&... args) { multiply_gate_up(args...); });
    ConstRows inner;
    inner.base = memory_ + at_.inner;
    inner.stride = form_.gate.out;
    inner.count = rows_;
    inner_ = prepare_rows(
        pool_, form_.down, precision_, inner, memory_ + at_.prepared);
    for_each_tile(
        form_.down, [&](const auto&... args) { multiply_down(args...); });
  }

  static int64_t rows_of(std::span<const ExpertTask> tasks) {
    int64_t rows = 0;
    for (const ExpertTask& task : tasks) {
      rows += task.y.count;
    }
    return rows;
  }

 private:
  static int64_t most_rows(std::span<const ExpertTask> tasks) {
    int64_t rows = 0;
    for (const ExpertTask& task : tasks) {
      rows = std::max(rows, task.y.count);
    }
    return rows;
  }

  struct Behind {
    const Expert* expert = nullptr;
    int64_t first = 0; // output

    TileBytes of(Matrix Expert::* w) const {
      return expert ? tile_bytes(expert->*w, first) : TileBytes();
    }
  };

  // Tile `tile` of all, which belongs to expert `i`, whose first is
  // `first_tile`, or to a later one; nothing behind the last.
  Behind behind_at(const Matrix& w, size_t i, int64_t first_tile, int64_t tile)
      const {
    for (; i < tasks_.size(); ++i) {
      const Cut cut(w, tasks_[i].y.count);
      if (tile - first_tile < cut.tasks) {
        return {&tasks_[i].expert, cut.first_output(tile - first_tile)};
      }
      first_tile += cut.tasks;
    }
    return {};
  }

  // Calls multiply(task, its first row in the batch, cut, tile, behind, worker)
  // for every tile of every expert's `w`, on all threads; `behind` is what the
  // worker calls it with next, or nothing.
  template <typename Multiply>
  void for_each_tile(const Matrix& w, const Multiply& multiply) {
    int64_t all = 0;
    for (const ExpertTask& task : tasks_) {
      all += Cut(w, task.y.count).tasks;
    }
    const auto body =
        [&](int64_t begin, int64_t end, int worker, ThreadPool::Next& next) {
          int64_t first_tile = 0;
          int64_t first_row = 0;
          for (size_t i = 0; i < tasks_.size(); ++i) {
            const ExpertTask& task = tasks_[i];
            const Cut cut(w, task.y.count);
            const int64_t from = std::max(begin - first_tile, int64_t{0});
            const int64_t to = std::min(end - first_tile, cut.tasks);
            for (int64_t t = from; t < to; ++t) {
              const int64_t tile = first_tile + t + 1;
              const Behind behind =
                  behind_at(w, i, first_tile, tile < end ? tile : next());
              multiply(task, first_row, cut, t, behind, worker);
            }
            first_tile += cut.tasks;
            first_row += task.y.count;
          }
        };
    pool_.parallel_for(all, grain_of(w, most_rows(tasks_)), body);
  }

  // inner = silu(x gate^T) * (x up^T)
  void multiply_gate_up(
      const ExpertTask& task,
      int64_t first_row,
      const Cut& cut,
      int64_t tile,
      const Behind& behind,
      int worker) {
    float* gated = memory_ + at_.workers + worker * at_.worker_floats;
    float* upped = gated + at_.result_floats;
    float* memory = upped + at_.result_floats;
    const int64_t block = cut.row_block(tile);
    const int64_t first = cut.first_output(tile);
    const TaskRows rows(inputs_.gate, task.rows, task.y.count, block);
    ProductTask gate = make_task(task.expert.gate, first, rows, gated, memory);
    gate.ahead = behind.of(&Expert::gate);
    multiply_tile(gate);
    const TaskRows up_rows(inputs_.up, task.rows, task.y.count, block);
    ProductTask up = make_task(task.expert.up, first, up_rows, upped, memory);
    up.ahead = behind.of(&Expert::up);
    multiply_tile(up);
    gate_products(upped, rows.count * cut.tile, gated);
    const int64_t inner = form_.gate.out;
    const MutableRows to{
        memory_ + at_.inner + first_row * inner, inner, task.y.count, nullptr};
    copy_results(gated, cut.tile, first, inner, rows, to);
  }

  void multiply_down(
      const ExpertTask& task,
      int64_t first_row,
      const Cut& cut,
      int64_t tile,
      const Behind& behind,
      int worker) {
    float* out = memory_ + at_.workers + worker * at_.worker_floats;
    float* memory = out + at_.result_floats;
    const int64_t first = cut.first_output(tile);
    const TaskRows rows(
        rows_from(inner_, first_row),
        nullptr,
        task.y.count,
        cut.row_block(tile));
    ProductTask down = make_task(task.expert.down, first, rows, out, memory);
    down.ahead = behind.of(&Expert::down);
    multiply_tile(down);
    copy_results(out, cut.tile, first, form_.down.out, rows, task.y);
  }

  static PreparedRows rows_from(PreparedRows rows, int64_t first) {
    rows.x.base += first * rows.x.stride;
    if (rows.groups > 0) {
      rows.sums += first * rows.groups;
    }
    if (rows.has_integers) {
      rows.scales += first * rows.groups;
      rows.integers += first * rows.stride;
    }
    return rows;
  }

  ThreadPool& pool_;
  const Precision precision_;
  const ExpertInputs& inputs_;
  const std::span<const ExpertTask> tasks_;
  const Expert& form_;
  const int64_t rows_;
  const BatchMemory at_;
  float* memory_ = nullptr;
  PreparedRows inner_;
};

} // namespace

size_t
expert_inputs_floats(const Expert& form, Precision precision, int64_t rows) {
  const size_t gate = prepared_floats(form.gate, precision, rows);
  return same_preparation(form.gate, form.up, precision)
      ? gate
      : gate + prepared_floats(form.up, precision, rows);
}

ExpertInputs prepare_expert_inputs(
    ThreadPool& pool,
    const Expert& form,
    Precision precision,
    const ConstRows& x,
    float* memory) {
  ExpertInputs inputs;
  inputs.gate = prepare_rows(pool, form.gate, precision, x, memory);
  if (same_preparation(form.gate, form.up, precision)) {
    inputs.up = inputs.gate;
  } else {
    memory += prepared_floats(form.gate, precision, x.count);
    inputs.up = prepare_rows(pool, form.up, precision, x, memory);
  }
  return inputs;
}

void expert_mlps(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const ExpertInputs& inputs,
    std::span<const ExpertTask> tasks) {
  for (const ExpertTask& task : tasks) {
    check(task.expert);
  }
  while (!tasks.empty()) {
    size_t n = 1;
    int64_t rows = tasks[0].y.count;
    while (n < tasks.size() && rows + tasks[n].y.count <= kBatchRows) {
      rows += tasks[n++].y.count;
    }
    if (rows > 0) {
      ExpertBatch batch(pool, precision, inputs, tasks.first(n));
      batch.run(scratch.reserve(batch.memory_floats()));
    }
    tasks = tasks.subspan(n);
  }
}

void swiglu_mlp(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const Expert& expert,
    const ConstRows& x,
    const MutableRows& y) {
  check(expert);
  MLX_FLASH_CHECK(x.count == y.count);
  if (x.count == 0) {
    return;
  }
  const ExpertTask task{expert, nullptr, y};
  ExpertInputs inputs;
  ExpertBatch batch(pool, precision, inputs, {&task, 1});
  float* memory = scratch.reserve(
      batch.memory_floats() + expert_inputs_floats(expert, precision, x.count));
  inputs = prepare_expert_inputs(
      pool, expert, precision, x, memory + batch.memory_floats());
  batch.run(memory);
}

size_t swiglu_mlp_scratch_floats(
    const Expert& form,
    Precision precision,
    int64_t rows,
    int threads) {
  return BatchMemory(form, precision, rows, rows, threads).all +
      expert_inputs_floats(form, precision, rows);
}

size_t expert_mlps_scratch_floats(
    const Expert& form,
    Precision precision,
    int64_t rows,
    int64_t pairs,
    int threads) {
  const int64_t batch = std::max(rows, std::min(pairs, kBatchRows));
  return BatchMemory(form, precision, batch, rows, threads).all;
}

} // namespace mlx_flash::kernels
