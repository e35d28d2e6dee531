// The part of attention that one worker does at a time, and its memory. How
// rows become such parts is in attention.cpp.
//
// Thread rule: free functions; sums and memory belong to one worker at a time.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/attention.h"
#include "kernels/product.h"

namespace mlx_flash::kernels {

// Positions whose sums are kept apart and added to the row's at their end, so
// that the spans of a long row can be several threads' work. Counted from
// position 0, as everything that a result's bits depend on.
inline constexpr int64_t kSpanPositions = 512;

// Partial sums of a softmax's weights.
inline constexpr int64_t kWeightSums = 16;

// The most queries that are answered together: the heads of a group that
// share keys, times rows that share pages.
inline constexpr int64_t kMaxQueries = 64;

// Queries that read the same pages and the same head of keys and values, in
// the order of their lengths.
struct AttentionRun {
  const AttentionShape* shape = nullptr;
  const std::byte* const* pages = nullptr;
  int64_t kv_head = 0;
  int64_t count = 0;
  const float* queries[kMaxQueries];
  float* outs[kMaxQueries];
  int64_t lengths[kMaxQueries];

  int64_t longest() const {
    return lengths[count - 1];
  }

  // The first query that attends to `position`, and thus to all before it.
  int64_t first_beyond(int64_t position) const {
    return std::upper_bound(lengths, lengths + count, position) - lengths;
  }

  // Positions of the page that begins at `first` that query `q` attends to.
  int64_t tokens(int64_t q, int64_t first) const {
    return std::min(kKvPageTokens, lengths[q] - first);
  }

  const std::byte* head_at(int64_t position) const {
    return pages[position / kKvPageTokens] + kv_head * shape->kv.head_bytes();
  }
};

// What queries have of some positions: softmax's sums, not yet divided.
struct AttentionSums {
  int64_t columns;
  float* most; // [count] the largest score, times log2(e)
  // [count, kWeightSums] of 2^(score * log2(e) - most), position p's in
  // p % kWeightSums
  float* weights;
  float* values; // [count, columns] of the same times the value

  AttentionSums(float* memory, int64_t count, int64_t width)
      : columns(width),
        most(memory),
        weights(memory + padded_floats(count)),
        values(weights + count * kWeightSums) {}

  void clear(int64_t count) const {
    std::fill_n(
        most, padded_floats(count), std::numeric_limits<float>::lowest());
    std::fill_n(weights, count * (kWeightSums + columns), 0.0f);
  }

  static size_t floats(int64_t count, int64_t columns) {
    return padded_floats(count) +
        static_cast<size_t>(count * (kWeightSums + columns));
  }
};

// A worker's memory, in floats from its start.
struct AttentionMemory {
  size_t scores = 0; // [kMaxQueries, kKvPageTokens]
  size_t factors; // [kMaxQueries]
  size_t scales; // [kMaxQueries]
  size_t span; // AttentionSums of a span
  size_t row; // AttentionSums of all spans so far
  // For i16, the queries and weights as integers: [kMaxQueries, query_floats]
  // and [kMaxQueries, kKvPageTokens / 2] pairs, and how queries, then a
  // page's weights, are rounded, [4, kMaxQueries]: the sum of the magnitudes,
  // the largest, the factor, the unit.
  size_t queries;
  size_t weights;
  size_t roundings;
  size_t all;
  int64_t query_floats;

  explicit AttentionMemory(const KvLayout& kv) {
    const size_t sums = AttentionSums::floats(kMaxQueries, kv.columns());
    const size_t each = padded_floats(kMaxQueries);
    query_floats = kv.columns() / 2;
    factors = scores + padded_floats(kMaxQueries * kKvPageTokens);
    scales = factors + each;
    span = scales + each;
    row = span + sums;
    queries = row + sums;
    const bool rounds = kv.type == KvType::i16;
    weights =
        queries + (rounds ? padded_floats(kMaxQueries * query_floats) : 0);
    roundings =
        weights + (rounds ? padded_floats(kMaxQueries * kKvPageTokens / 2) : 0);
    all = roundings + (rounds ? 4 * each : 0);
  }
};

// The run's results, from all positions.
void attend_run(
    const AttentionRun& run,
    const AttentionMemory& at,
    float* memory);

// The same in parts: the sums of the span at position `first`, then those of
// all spans added in their order to `row`, which was cleared, then the results.
void attend_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionMemory& at,
    float* memory,
    const AttentionSums& sums);
void add_span(
    const AttentionRun& run,
    int64_t first,
    const AttentionSums& span,
    const AttentionSums& row);
void finish_run(const AttentionRun& run, const AttentionSums& row);

} // namespace mlx_flash::kernels
