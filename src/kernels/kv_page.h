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

// The numbers of a page. f16 is IEEE's half precision: 11 bits of every key and
// value, and half the memory and bandwidth of f32. Magnitudes beyond its
// largest number, 65504, become that number: an infinity would turn a score
// into NaN, and with it the whole row. NaN stays NaN where the processor
// converts (F16C, NEON); Highway's own conversion makes a finite number of it.
enum class KvType : uint8_t { f32, f16 };

// Positions of a page; memory is reserved by whole pages.
inline constexpr int64_t kKvPageTokens = 64;

// Positions of keys, or columns of values, that are neighbours in memory: a
// cache line in f16. Attention then reads a page from end to end.
inline constexpr int64_t kKvLanes = 32;

// Keys and values of one layer. A page holds for each KV head
//   keys [kKvPageTokens / kKvLanes, head_dim, kKvLanes]: number 0 of some
//     positions, their number 1, and so on; then
//   values [columns() / kKvLanes, kKvPageTokens, kKvLanes]: some columns of
//     position 0, of position 1, and so on.
struct KvLayout {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  KvType type = KvType::f32;

  // Of values in memory; those past head_dim mean nothing.
  int64_t columns() const {
    return (head_dim + kKvLanes - 1) / kKvLanes * kKvLanes;
  }
  // Numbers of one head.
  int64_t head_numbers() const {
    return kKvPageTokens * (head_dim + columns());
  }
  int64_t head_bytes() const {
    return head_numbers() * (type == KvType::f16 ? 2 : 4);
  }
  int64_t page_bytes() const {
    return kv_heads * head_bytes();
  }

  // Where among a head's numbers those of one position are.
  int64_t key_place(int64_t position, int64_t i) const {
    const int64_t p = position % kKvPageTokens;
    return (p / kKvLanes * head_dim + i) * kKvLanes + p % kKvLanes;
  }
  int64_t value_place(int64_t position, int64_t i) const {
    const int64_t p = position % kKvPageTokens;
    return kKvPageTokens * head_dim +
        (i / kKvLanes * kKvPageTokens + p) * kKvLanes + i % kKvLanes;
  }
};

// Writes one token's keys and values, [kv_heads, head_dim] each, to
// `position`. A sequence's position p is in its page p / kKvPageTokens; a page
// has page_bytes() and the alignment of its numbers.
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
