#include "kernels/matmul.h"

#include <array>

#include "kernels/product_tasks.h"

namespace mlx_flash::kernels {
namespace {

// A region takes at most this many products; more are several regions.
constexpr size_t kMostProducts = 8;

size_t worker_floats(const Matrix& w, int64_t rows) {
  return padded_floats(rows_per_task(rows) * product_tile()) +
      product_memory_floats(w);
}

// The products of one region, one after the other, and the memory of each
// worker: a task's results and then product_memory_floats().
class Region {
 public:
  Region(
      ThreadPool& pool,
      Scratch& scratch,
      Precision precision,
      std::span<const Product> products,
      const ConstRows& x)
      : pool_(pool), products_(products), rows_(x.count) {
    size_t prepared = 0;
    for (const Product& product : products) {
      prepared += prepared_floats(product.w, precision, rows_);
      worker_floats_ =
          std::max(worker_floats_, worker_floats(product.w, rows_));
    }
    workers_ = scratch.reserve(
        prepared + worker_floats_ * static_cast<size_t>(pool.threads()));
    float* memory = workers_ + worker_floats_ * pool.threads();
    for (size_t p = 0; p < products.size(); ++p) {
      prepare(precision, x, p, memory);
      first_task_[p + 1] = first_task_[p] + Cut(products[p].w, rows_).tasks;
      grain_ = std::max(grain_, grain_of(products[p].w, rows_));
    }
  }

  void run() {
    const auto body =
        [&](int64_t begin, int64_t end, int worker, ThreadPool::Next& next) {
          for (size_t p = 0; p < products_.size(); ++p) {
            const int64_t first = std::max(begin, first_task_[p]);
            const int64_t last = std::min(end, first_task_[p + 1]);
            for (int64_t t = first; t < last; ++t) {
              const int64_t behind = t + 1 < end ? t + 1 : next();
              multiply(p, t - first_task_[p], tile_of(p, behind), worker);
            }
          }
        };
    pool_.parallel_for(first_task_[products_.size()], grain_, body);
  }

 private:
  // Rows prepared for an earlier product of the same form serve this one.
  void
  prepare(Precision precision, const ConstRows& x, size_t p, float*& memory) {
    const Matrix& w = products_[p].w;
    for (size_t before = 0; before < p; ++before) {
      if (same_preparation(w, products_[before].w, precision)) {
        prepared_[p] = prepared_[before];
        return;
      }
    }
    prepared_[p] = prepare_rows(pool_, w, precision, x, memory);
    memory += prepared_floats(w, precision, x.count);
  }

  // Of a task of product `p` or a later one; nothing behind the last task.
  TileBytes tile_of(size_t p, int64_t task) const {
    while (p < products_.size() && task >= first_task_[p + 1]) {
      ++p;
    }
    if (p == products_.size()) {
      return {};
    }
    const Matrix& w = products_[p].w;
    return tile_bytes(w, Cut(w, rows_).first_output(task - first_task_[p]));
  }

  void multiply(size_t p, int64_t number, const TileBytes& ahead, int worker) {
    const Product& product = products_[p];
    const Cut cut(product.w, rows_);
    float* out = workers_ + worker * worker_floats_;
    float* memory = out + padded_floats(rows_per_task(rows_) * cut.tile);
    const TaskRows rows(prepared_[p], nullptr, rows_, cut.row_block(number));
    const int64_t first = cut.first_output(number);
    ProductTask task = make_task(product.w, first, rows, out, memory);
    task.ahead = ahead;
    multiply_tile(task);
    copy_results(out, cut.tile, first, product.w.out, rows, product.y);
  }

  ThreadPool& pool_;
  const std::span<const Product> products_;
  const int64_t rows_;
  std::array<PreparedRows, kMostProducts> prepared_;
  std::array<int64_t, kMostProducts + 1> first_task_{};
  int64_t grain_ = 1;
  float* workers_ = nullptr;
  size_t worker_floats_ = 0;
};

} // namespace

size_t matmul_scratch_floats(
    const Matrix& w,
    Precision precision,
    int64_t rows,
    int threads) {
  return prepared_floats(w, precision, rows) +
      worker_floats(w, rows) * static_cast<size_t>(threads);
}

void matmuls(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    std::span<const Product> products,
    const ConstRows& x) {
  for (const Product& product : products) {
    check(product.w);
    MLX_FLASH_CHECK(x.count == product.y.count);
  }
  if (x.count == 0) {
    return;
  }
  for (; products.size() > kMostProducts;
       products = products.subspan(kMostProducts)) {
    Region(pool, scratch, precision, products.first(kMostProducts), x).run();
  }
  Region(pool, scratch, precision, products, x).run();
}

void matmul(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const Matrix& w,
    const ConstRows& x,
    const MutableRows& y) {
  const Product product{w, y};
  matmuls(pool, scratch, precision, {&product, 1}, x);
}

} // namespace mlx_flash::kernels
