// A part of attention that one worker does at a time, and its memory: shared
// by the SIMD code and the driver in attention.cpp.
#pragma once

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/product.h"

namespace mlx_flash::kernels {

// The most queries that are answered together: the heads of a group that
// share keys, times rows that share pages.
inline constexpr int64_t kMaxQueries = 16;

// Queries that read the same pages and the same head of keys and values.
struct AttentionRun {
  const AttentionShape* shape = nullptr;
  const KvPage* pages = nullptr;
  int64_t kv_head = 0;
  int64_t count = 0;
  const float* queries[kMaxQueries];
  float* outs[kMaxQueries];
  int64_t lengths[kMaxQueries];

  int64_t longest() const {
    return *std::max_element(lengths, lengths + count);
  }

  // Positions of the page that begins at `first` which some query attends to.
  int64_t tokens_in_page(int64_t first) const {
    return std::min(shape->page_tokens, longest() - first);
  }

  const float* head_of(const float* page) const {
    return page + kv_head * shape->page_tokens * shape->head_dim;
  }
};

// A worker's memory, in floats from its start.
struct AttentionMemory {
  size_t score_stride;
  size_t scores = 0; // [kMaxQueries, score_stride]
  size_t tile_scores; // [kMaxQueries, product_tile()]
  size_t totals; // [kMaxQueries, head_dim]
  size_t product; // for products with a page's keys
  size_t all;

  AttentionMemory(const AttentionShape& shape, int64_t longest) {
    Matrix keys;
    keys.in = shape.head_dim;
    score_stride = padded_floats(longest);
    tile_scores = kMaxQueries * score_stride;
    totals = tile_scores + padded_floats(kMaxQueries * product_tile());
    product = totals + padded_floats(kMaxQueries * shape.head_dim);
    all = product + product_memory_floats(keys);
  }
};

} // namespace mlx_flash::kernels
