#include "kernels/prepared_rows.h"

#include "kernels/product.h"
#include "kernels/quantize.h"

namespace mlx_flash::kernels {
namespace {

// A thread is woken for at least this many numbers.
constexpr int64_t kNumbersPerChunk = 8192;

bool uses_integers(const Matrix& w, Precision precision) {
  return precision == Precision::int8 && w.type == WeightType::affine;
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
    all = integers + (has_integers ? padded_floats(rows * w.in / 4) : 0);
  }
};

} // namespace

bool same_preparation(const Matrix& a, const Matrix& b, Precision precision) {
  if (a.in != b.in || groups_of(a) != groups_of(b)) {
    return false;
  }
  return uses_integers(a, precision) == uses_integers(b, precision) &&
      (!uses_integers(a, precision) ||
       columns_order(a.bits) == columns_order(b.bits));
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
  rows.in = w.in;
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
          columns_order(w.bits),
          integers + r * w.in,
          scales + r * rows.groups,
          sums + r * rows.groups);
    }
  };
  pool.parallel_for(x.count, 1 + kNumbersPerChunk / w.in, body);
  return rows;
}

const uint8_t* columns_order(int bits) {
  static constexpr uint8_t kNatural[16] = {
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // A 32-bit word holds 8 weights; one mask takes every second of them.
  static constexpr uint8_t kFourBits[16] = {
      0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
  // 16 weights; one mask takes every fourth.
  static constexpr uint8_t kTwoBits[16] = {
      0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  return bits == 4 ? kFourBits : bits == 2 ? kTwoBits : kNatural;
}

} // namespace mlx_flash::kernels
