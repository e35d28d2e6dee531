// How keys and values lie in memory: in pages of some positions, for attention
// to read from end to end with a SIMD lane for each position (keys) or each
// column (values).
//
// Thread rule: free functions without state; who writes a page is alone with
// it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_flash::kernels {

// The numbers of a page. i16 is an integer of at most kKvMost, with one scale
// for each position's key, and one for its value, of each head: finer than half
// precision (11 bits) for numbers down to an eighth of the largest, and
// products of two such integers are added without conversions and without
// rounding. A key or a value that has a number that is not finite is NaN as a
// whole. Magnitudes from 1e-28 to 1e33 are safe; less may count as 0.
enum class KvType : uint8_t { f32, i16 };

// Largest magnitude of an i16. Queries and weights become integers whose
// magnitudes add up to at most kKvFactors: their sum of products then fits 32
// bits, with three bits more for them than for the keys, because there are many
// of them in a sum. With fewer than kMostHeadDim of them the sum is as exact in
// f32 as that needs.
inline constexpr int32_t kKvMost = 16383;
inline constexpr int32_t kKvFactors = 131071;
inline constexpr int64_t kMostHeadDim = 4096;
static_assert(int64_t{kKvMost} * kKvFactors < int64_t{1} << 31);

// Numbers of which the largest is less become zeros: it has no reciprocal.
inline constexpr float kKvLeast = 1e-33f;

// What n magnitudes may add up to so that they are at most `most` once each is
// rounded, which adds a half at most.
constexpr float room_for_rounding(int64_t most, int64_t n) {
  const int64_t room = most - n / 2 - 1;
  return static_cast<float>(room);
}

// Positions of a page; memory is reserved by whole pages.
inline constexpr int64_t kKvPageTokens = 64;

// Positions of keys, or columns of values, that are neighbours in memory, each
// with a word of 32 bits: one f32, or two i16. Attention then reads a page from
// end to end.
inline constexpr int64_t kKvLanes = 32;

// Keys and values of one layer. A page holds for each KV head
//   keys, words [kKvPageTokens / kKvLanes, key_words(), kKvLanes]: the first
//     word of some positions, their next one, and so on, where a word is one
//     number of a key, or two;
//   values, words [columns() / kKvLanes, value_lines(), kKvLanes]: some columns
//     of the first word, of the next one, and so on, where a word is the
//     column's number at one position, or at two;
//   for i16 the scales of keys, then those of values, f32 [2, kKvPageTokens].
struct KvLayout {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  KvType type = KvType::f32;

  int64_t word_numbers() const {
    return type == KvType::i16 ? 2 : 1;
  }
  int64_t key_words() const {
    return (head_dim + word_numbers() - 1) / word_numbers();
  }
  // Of values in memory; those past head_dim mean nothing.
  int64_t columns() const {
    return (head_dim + kKvLanes - 1) / kKvLanes * kKvLanes;
  }
  int64_t value_lines() const {
    return kKvPageTokens / word_numbers();
  }

  // Of one head: its words, with the scales behind them.
  int64_t head_words() const {
    return kKvPageTokens * key_words() + value_lines() * columns();
  }
  int64_t head_bytes() const {
    const int64_t scales = type == KvType::i16 ? 2 * kKvPageTokens : 0;
    return (head_words() + scales) * 4;
  }
  int64_t page_bytes() const {
    return kv_heads * head_bytes();
  }

  // Where among a head's words are word `w` of a position's key, and column
  // `c` of the `line`-th word of values.
  int64_t key_word(int64_t position, int64_t w) const {
    const int64_t p = position % kKvPageTokens;
    return (p / kKvLanes * key_words() + w) * kKvLanes + p % kKvLanes;
  }
  int64_t value_word(int64_t line, int64_t c) const {
    return kKvPageTokens * key_words() +
        (c / kKvLanes * value_lines() + line) * kKvLanes + c % kKvLanes;
  }
};

// Writes one token's keys and values, [kv_heads, head_dim] each, to
// `position`. A sequence's position p is in its page p / kKvPageTokens; a page
// has page_bytes() and the alignment of its words.
void append_kv(
    const KvLayout& layout,
    std::byte* const* pages,
    int64_t position,
    const float* keys,
    const float* values);

// Number i of a key or a value.
float load_key(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i);
float load_value(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i);

} // namespace mlx_flash::kernels
