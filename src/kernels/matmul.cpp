#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/product.h"

namespace mlx_flash::kernels {
namespace {

// A thread is woken for at least this many products.
constexpr int64_t kProductsPerChunk = 32768;

void check(const Matrix& w) {
  MLX_FLASH_CHECK(w.in >= 1 && w.out >= 0);
  if (w.type == WeightType::affine) {
    const int b = w.bits;
    MLX_FLASH_CHECK(b == 2 || b == 3 || b == 4 || b == 5 || b == 6 || b == 8);
    const int g = w.group_size;
    MLX_FLASH_CHECK(g == 32 || g == 64 || g == 128);
    MLX_FLASH_CHECK(w.in % g == 0);
  }
}

int64_t rows_per_task(int64_t rows) {
  return std::min(rows, kTaskRows);
}

// How a product is cut into tasks: by rows of x within tiles of W, so that
// tasks of one tile, which read the same weights, follow each other.
struct Cut {
  int64_t tile;
  int64_t row_blocks;
  int64_t tasks;
  int64_t grain;

  Cut(const Matrix& w, int64_t rows)
      : tile(product_tile()),
        row_blocks((rows + kTaskRows - 1) / kTaskRows),
        tasks((w.out + tile - 1) / tile * row_blocks),
        grain(1 + kProductsPerChunk / (w.in * tile * rows_per_task(rows))) {}
};

size_t sums_floats(const Matrix& w, int64_t rows) {
  return padded_floats(rows * groups_of(w));
}

void sum_all_groups(
    ThreadPool& pool,
    const Matrix& w,
    const ConstRows& x,
    float* sums) {
  const int64_t groups = groups_of(w);
  if (groups == 0) {
    return;
  }
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      sum_groups(x[r], groups, w.group_size, sums + r * groups);
    }
  };
  pool.parallel_for(x.count, 1 + kProductsPerChunk / w.in, body);
}

// The rows of x in a task, by address, for a task's lifetime.
struct TaskRows {
  const float* x[kTaskRows];
  int64_t first;
  int64_t count;

  TaskRows(const ConstRows& rows, int64_t block)
      : first(block * kTaskRows),
        count(std::min(kTaskRows, rows.count - first)) {
    for (int64_t r = 0; r < count; ++r) {
      x[r] = rows[first + r];
    }
  }
};

ProductTask make_task(
    const Matrix& w,
    int64_t first,
    const TaskRows& rows,
    const float* sums,
    float* out,
    float* memory) {
  ProductTask task;
  task.w = &w;
  task.first = first;
  task.x = rows.x;
  task.rows = rows.count;
  task.sums = sums + rows.first * groups_of(w);
  task.out = out;
  task.memory = memory;
  return task;
}

// y = x W^T with the sums of x given. `memory` holds, for each worker, a
// task's results and then product_memory_floats().
void multiply_all(
    ThreadPool& pool,
    const Matrix& w,
    const ConstRows& x,
    const float* sums,
    const MutableRows& y,
    float* memory,
    size_t worker_floats) {
  const Cut cut(w, x.count);
  const size_t result_floats = padded_floats(rows_per_task(x.count) * cut.tile);
  const auto body = [&](int64_t begin, int64_t end, int worker) {
    float* out = memory + worker * worker_floats;
    for (int64_t t = begin; t < end; ++t) {
      const TaskRows rows(x, t % cut.row_blocks);
      const int64_t first = t / cut.row_blocks * cut.tile;
      const ProductTask task =
          make_task(w, first, rows, sums, out, out + result_floats);
      multiply_tile(task);
      const int64_t n = std::min(cut.tile, w.out - first);
      for (int64_t r = 0; r < rows.count; ++r) {
        std::memcpy(
            y[rows.first + r] + first,
            out + r * cut.tile,
            static_cast<size_t>(n) * sizeof(float));
      }
    }
  };
  pool.parallel_for(cut.tasks, cut.grain, body);
}

size_t matmul_worker_floats(const Matrix& w, int64_t rows) {
  return padded_floats(rows_per_task(rows) * product_tile()) +
      product_memory_floats(w);
}

// The memory of expert_mlp(), in floats from its start.
struct ExpertMemory {
  size_t gate_sums = 0;
  size_t up_sums;
  size_t inner; // [rows, inner]: silu(gate(x)) * up(x)
  size_t inner_sums;
  size_t workers;
  size_t worker_floats;
  size_t all;

  ExpertMemory(
      const Matrix& gate,
      const Matrix& up,
      const Matrix& down,
      int64_t rows,
      int threads) {
    // The sums serve both where the groups are the same.
    const size_t after_gate = gate_sums + sums_floats(gate, rows);
    const bool shared = groups_of(up) == groups_of(gate);
    up_sums = shared ? gate_sums : after_gate;
    inner = shared ? after_gate : after_gate + sums_floats(up, rows);
    inner_sums = inner + padded_floats(rows * gate.out);
    workers = inner_sums + sums_floats(down, rows);
    const size_t product = std::max(
        product_memory_floats(down),
        std::max(product_memory_floats(gate), product_memory_floats(up)));
    // Gate and up are computed beside each other and need one result each.
    worker_floats =
        2 * padded_floats(rows_per_task(rows) * product_tile()) + product;
    all = workers + worker_floats * static_cast<size_t>(threads);
  }
};

// inner = silu(x gate^T) * (x up^T)
void multiply_gate_up(
    ThreadPool& pool,
    const Matrix& gate,
    const Matrix& up,
    const ConstRows& x,
    float* memory,
    const ExpertMemory& at) {
  const Cut cut(gate, x.count);
  const size_t result_floats = padded_floats(rows_per_task(x.count) * cut.tile);
  const auto body = [&](int64_t begin, int64_t end, int worker) {
    float* gated = memory + at.workers + worker * at.worker_floats;
    float* upped = gated + result_floats;
    float* panel = upped + result_floats;
    for (int64_t t = begin; t < end; ++t) {
      const TaskRows rows(x, t % cut.row_blocks);
      const int64_t first = t / cut.row_blocks * cut.tile;
      multiply_tile(
          make_task(gate, first, rows, memory + at.gate_sums, gated, panel));
      multiply_tile(
          make_task(up, first, rows, memory + at.up_sums, upped, panel));
      gate_products(upped, rows.count * cut.tile, gated);
      const int64_t n = std::min(cut.tile, gate.out - first);
      for (int64_t r = 0; r < rows.count; ++r) {
        std::memcpy(
            memory + at.inner + (rows.first + r) * gate.out + first,
            gated + r * cut.tile,
            static_cast<size_t>(n) * sizeof(float));
      }
    }
  };
  pool.parallel_for(cut.tasks, cut.grain, body);
}

} // namespace

size_t matmul_scratch_floats(const Matrix& w, int64_t rows, int threads) {
  return sums_floats(w, rows) +
      matmul_worker_floats(w, rows) * static_cast<size_t>(threads);
}

size_t expert_mlp_scratch_floats(
    const Matrix& gate,
    const Matrix& down,
    int64_t rows,
    int threads) {
  // Whatever `up` is, it needs no more than the smallest groups do.
  Matrix up = gate;
  up.type = WeightType::affine;
  up.group_size = 32;
  const size_t same = ExpertMemory(gate, gate, down, rows, threads).all;
  return std::max(same, ExpertMemory(gate, up, down, rows, threads).all);
}

void matmul(
    ThreadPool& pool,
    Scratch& scratch,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y) {
  check(w);
  MLX_FLASH_CHECK(x.count == y.count);
  if (x.count == 0 || w.out == 0) {
    return;
  }
  float* sums =
      scratch.reserve(matmul_scratch_floats(w, x.count, pool.threads()));
  sum_all_groups(pool, w, x, sums);
  multiply_all(
      pool,
      w,
      x,
      sums,
      y,
      sums + sums_floats(w, x.count),
      matmul_worker_floats(w, x.count));
}

void expert_mlp(
    ThreadPool& pool,
    Scratch& scratch,
    const Matrix& gate,
    const Matrix& up,
    const Matrix& down,
    const ConstRows& x,
    const MutableRows& y) {
  check(gate);
  check(up);
  check(down);
  MLX_FLASH_CHECK(x.count == y.count);
  MLX_FLASH_CHECK(up.in == gate.in && up.out == gate.out);
  MLX_FLASH_CHECK(down.in == gate.out);
  if (x.count == 0) {
    return;
  }
  const ExpertMemory at(gate, up, down, x.count, pool.threads());
  float* memory = scratch.reserve(at.all);
  sum_all_groups(pool, gate, x, memory + at.gate_sums);
  if (at.up_sums != at.gate_sums) {
    sum_all_groups(pool, up, x, memory + at.up_sums);
  }
  multiply_gate_up(pool, gate, up, x, memory, at);

  ConstRows inner;
  inner.base = memory + at.inner;
  inner.stride = gate.out;
  inner.count = x.count;
  sum_all_groups(pool, down, inner, memory + at.inner_sums);
  multiply_all(
      pool,
      down,
      inner,
      memory + at.inner_sums,
      y,
      memory + at.workers,
      at.worker_floats);
}

} // namespace mlx_flash::kernels
