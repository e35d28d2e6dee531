// Causal attention of rows of one or many sequences over paged keys and
// values, with grouped query heads (Ainslie et al., "GQA", 2023).
//
// Same bits: a row's result depends on its query and its sequence's keys and
// values at positions 0 .. length - 1 only: not on the other rows, on threads,
// or on how the keys were appended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/scratch.h"
#include "kernels/thread_pool.h"

namespace mlx_flash::kernels {

struct AttentionShape {
  int64_t heads = 0; // of queries
  int64_t kv_heads = 0; // divides heads
  int64_t head_dim = 0;
  int64_t page_tokens = 0;
  float scale = 0; // of the scores, usually 1 / sqrt(head_dim)
};

// Keys and values of a page, each [kv_heads, page_tokens, head_dim] in f32.
// A sequence's position p is in its page p / page_tokens.
struct KvPage {
  float* keys = nullptr;
  float* values = nullptr;
};

struct AttentionRow {
  const float* query = nullptr; // [heads, head_dim]
  float* out = nullptr; // [heads, head_dim]
  const KvPage* pages = nullptr; // of the row's sequence
  int64_t length = 0; // attends to positions 0 .. length - 1; at least 1
};

void attention(
    ThreadPool& pool,
    Scratch& scratch,
    const AttentionShape& shape,
    std::span<const AttentionRow> rows);

// Writes one token's keys and values, [kv_heads, head_dim] each, to
// `position`.
void append_kv(
    const AttentionShape& shape,
    const KvPage* pages,
    int64_t position,
    const float* keys,
    const float* values);

size_t attention_scratch_floats(
    const AttentionShape& shape,
    int64_t longest,
    int threads);

// Double-precision reference.
void reference_attention(
    const AttentionShape& shape,
    std::span<const AttentionRow> rows);

} // namespace mlx_flash::kernels
