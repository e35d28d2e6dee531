#include "kernels/kv_page.h"

#include <algorithm>

#include "kernels/float_convert.h"

namespace mlx_flash::kernels {
namespace {

// kKvLanes numbers at most: what becomes vector code.
inline void convert(const float* from, int64_t n, float* to) {
  std::copy_n(from, n, to);
}
inline void convert(const float* from, int64_t n, uint16_t* to) {
  for (int64_t i = 0; i < n; ++i) {
    to[i] = finite_f16(from[i]);
  }
}

template <class Number>
void append_head(
    const KvLayout& layout,
    int64_t position,
    const float* key,
    const float* value,
    Number* head) {
  for (int64_t c = 0; c < layout.head_dim; c += kKvLanes) {
    const int64_t n = std::min(kKvLanes, layout.head_dim - c);
    convert(value + c, n, head + layout.value_place(position, c));
    Number numbers[kKvLanes];
    convert(key + c, n, numbers);
    Number* to = head + layout.key_place(position, c);
    for (int64_t i = 0; i < n; ++i) {
      to[i * kKvLanes] = numbers[i];
    }
  }
}

template <class Number>
void append(
    const KvLayout& layout,
    std::byte* page,
    int64_t position,
    const float* keys,
    const float* values) {
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    append_head(
        layout,
        position,
        keys + h * layout.head_dim,
        values + h * layout.head_dim,
        reinterpret_cast<Number*>(page + h * layout.head_bytes()));
  }
}

float load(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t place) {
  const std::byte* head =
      pages[position / kKvPageTokens] + kv_head * layout.head_bytes();
  return load_float(
      head,
      layout.type == KvType::f16 ? ScaleType::f16 : ScaleType::f32,
      place);
}

} // namespace

void append_kv(
    const KvLayout& layout,
    std::byte* const* pages,
    int64_t position,
    const float* keys,
    const float* values) {
  std::byte* page = pages[position / kKvPageTokens];
  if (layout.type == KvType::f16) {
    append<uint16_t>(layout, page, position, keys, values);
  } else {
    append<float>(layout, page, position, keys, values);
  }
}

float load_key(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i) {
  return load(layout, pages, kv_head, position, layout.key_place(position, i));
}

float load_value(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i) {
  return load(
      layout, pages, kv_head, position, layout.value_place(position, i));
}

} // namespace mlx_flash::kernels
