#include "kernels/prepared_rows.h"

#include "kernels/column_order.h"
#include "kernels/product.h"
#include "kernels/quantize.h"

namespace mlx_flash::kernels {
namespace {

// A thread is woken for at least this many numbers.
constexpr int64_t kNumbersPerChunk = 8192;

bool uses_integers(const Matrix& w, Precision precision) {
  return precision == Precision::int8 && is_quantised(w);
}

// The arrays in floats from the start of the memory.
struct Layout {
  size_t sums = 0;
  size_t scales;
  size_t integers;
  size_t all;

  Layout(const Matrix& w, Precision precision, int64_t rows) {
    const size_t per_group = padded_floats(rows * groups_of(w));
    const bool has_integers = uses_integers(w, precision);
    scales = sums + per_group;
    integers = scales + (has_integers ? per_group : 0);
    all = integers +
        (has_integers
             ? static_cast<size_t>(rows * integers_stride(w.bits, w.in)) / 4
             : 0);
  }
};

} // namespace

bool same_preparation(const Matrix& a, const Matrix& b, Precision precision) {
  if (a.in != b.in || groups_of(a) != groups_of(b)) {
    return false;
  }
  return uses_integers(a, precision) == uses_integers(b, precision) &&
      (!uses_integers(a, precision) || planes_of(a.bits) == planes_of(b.bits));
}

size_t prepared_floats(const Matrix& w, Precision precision, int64_t rows) {
  return Layout(w, precision, rows).all;
}

PreparedRows prepare_rows(
    ThreadPool& pool,
    const Matrix& w,
    Precision precision,
    const ConstRows& x,
    float* memory) {
  const Layout at(w, precision, x.count);
  PreparedRows rows;
  rows.x = x;
  rows.groups = groups_of(w);
  if (rows.groups == 0) {
    return rows;
  }
  rows.has_integers = uses_integers(w, precision);
  float* sums = memory + at.sums;
  float* scales = memory + at.scales;
  auto* integers = reinterpret_cast<int8_t*>(memory + at.integers);
  rows.sums = sums;
  if (rows.has_integers) {
    rows.stride = integers_stride(w.bits, w.in);
    rows.scales = scales;
    rows.integers = integers;
  }
  const auto body = [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      if (!rows.has_integers) {
        sum_groups(x[r], rows.groups, w.group_size, sums + r * rows.groups);
        continue;
      }
      quantize_groups(
          x[r],
          rows.groups,
          w.group_size,
          planes_of(w.bits),
          integers + r * rows.stride,
          scales + r * rows.groups,
          sums + r * rows.groups);
    }
  };
  pool.parallel_for(x.count, 1 + kNumbersPerChunk / w.in, body);
  return rows;
}

} // namespace mlx_flash::kernels
