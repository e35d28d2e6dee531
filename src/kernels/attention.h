// Causal attention of rows of one or many sequences over paged keys and
// values, with grouped query heads (Ainslie et al., "GQA", 2023) and a softmax
// that needs no row of all scores (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).
//
// Same bits: a row's result depends on its query and its sequence's keys and
// values at positions 0 .. length - 1 only: not on the other rows, on threads,
// or on how the keys were appended. Tiles and spans of positions (see
// kernels/attention_run.h) are counted from position 0 for that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_page.h"
#include "kernels/scratch.h"
#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

struct AttentionShape {
  int64_t heads = 0; // of queries; a multiple of kv.kv_heads
  float scale = 0; // of the scores, usually 1 / sqrt(head_dim); not negative
  KvLayout kv; // head_dim is at most kMostHeadDim
};

struct AttentionRow {
  const float* query = nullptr; // [heads, head_dim]
  float* out = nullptr; // [heads, head_dim]
  const std::byte* const* pages = nullptr; // of the row's sequence
  int64_t length = 0; // attends to positions 0 .. length - 1; at least 1
};

void attention(
    ThreadPool& pool,
    Scratch& scratch,
    const AttentionShape& shape,
    std::span<const AttentionRow> rows);

// The most that attention() takes of its scratch, for any rows.
size_t attention_scratch_floats(const AttentionShape& shape, int threads);

// Double-precision reference. With i16 it rounds queries as attention() does.
void reference_attention(
    const AttentionShape& shape,
    std::span<const AttentionRow> rows);

} // namespace mlx_flash::kernels
