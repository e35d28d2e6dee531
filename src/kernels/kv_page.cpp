#include "kernels/kv_page.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace mlx_flash::kernels {
namespace {

// The scale of n numbers whose largest magnitude becomes kKvMost: 0 if all are
// nearly zero, NaN if one is not finite. Magnitudes are compared as integers,
// which vectors do in any order.
float i16_scale(const float* x, int64_t n) {
  constexpr int32_t kInfinity = 0x7F800000;
  int32_t most = 0;
  for (int64_t i = 0; i < n; ++i) {
    most = std::max(most, std::bit_cast<int32_t>(x[i]) & 0x7FFFFFFF);
  }
  if (most >= kInfinity) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto magnitude = std::bit_cast<float>(most);
  return magnitude < kKvLeast ? 0 : magnitude / kKvMost;
}

// Integers of at most 16 bits next to x * factor. Adding 1.5 * 2^23 rounds and
// leaves them in the last bits.
void round_to_i16(const float* x, int64_t n, float factor, int16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] =
        static_cast<int16_t>(std::bit_cast<int32_t>(x[i] * factor + 0x1.8p23f));
  }
}

// Numbers of one key or one value on their way into a page: themselves, or
// integers of the scale that is kept beside them.
struct F32Numbers {
  using Number = float;

  F32Numbers(const float*, int64_t, float*, int64_t) {}

  void convert(const float* from, int64_t n, float* to) const {
    std::copy_n(from, n, to);
  }
};

struct I16Numbers {
  using Number = int16_t;

  float factor;

  I16Numbers(const float* x, int64_t n, float* scales, int64_t place) {
    const float scale = i16_scale(x, n);
    scales[place] = scale;
    factor = scale > 0 ? 1 / scale : 0;
  }

  void convert(const float* from, int64_t n, int16_t* to) const {
    round_to_i16(from, n, factor, to);
  }
};

// One position of one head.
template <class Numbers>
struct HeadWriter {
  using Number = typename Numbers::Number;
  static constexpr int64_t kWordNumbers = 4 / sizeof(Number);

  const KvLayout& layout;
  int64_t position; // in the page
  Number* head;
  float* scales; // [2, kKvPageTokens]; none with f32

  void write_key(const float* key) const {
    const Numbers numbers(key, layout.head_dim, scales, position);
    for (int64_t c = 0; c < layout.head_dim; c += kKvLanes) {
      const int64_t n = std::min(kKvLanes, layout.head_dim - c);
      Number block[kKvLanes];
      numbers.convert(key + c, n, block);
      Number* to =
          head + layout.key_word(position, c / kWordNumbers) * kWordNumbers;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t part = i % kWordNumbers;
        to[(i - part) * kKvLanes + part] = block[i];
      }
    }
  }

  void write_value(const float* value) const {
    const Numbers numbers(
        value, layout.head_dim, scales, kKvPageTokens + position);
    const int64_t part = position % kWordNumbers;
    for (int64_t c = 0; c < layout.head_dim; c += kKvLanes) {
      const int64_t n = std::min(kKvLanes, layout.head_dim - c);
      Number block[kKvLanes];
      numbers.convert(value + c, n, block);
      const int64_t word = layout.value_word(position / kWordNumbers, c);
      Number* to = head + word * kWordNumbers + part;
      for (int64_t i = 0; i < n; ++i) {
        to[i * kWordNumbers] = block[i];
      }
    }
  }
};

template <class Numbers>
void append(
    const KvLayout& layout,
    std::byte* page,
    int64_t position,
    const float* keys,
    const float* values) {
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    std::byte* head = page + h * layout.head_bytes();
    const HeadWriter<Numbers> writer{
        layout,
        position % kKvPageTokens,
        reinterpret_cast<typename Numbers::Number*>(head),
        reinterpret_cast<float*>(head) + layout.head_words()};
    writer.write_key(keys + h * layout.head_dim);
    writer.write_value(values + h * layout.head_dim);
  }
}

// Number `part` of a word of a head, with scale number `scale` of it.
float load(
    const KvLayout& layout,
    const std::byte* head,
    int64_t word,
    int64_t part,
    int64_t scale) {
  const auto* floats = reinterpret_cast<const float*>(head);
  if (layout.type == KvType::f32) {
    return floats[word];
  }
  const auto* integers = reinterpret_cast<const int16_t*>(head);
  return static_cast<float>(integers[2 * word + part]) *
      floats[layout.head_words() + scale];
}

} // namespace

void append_kv(
    const KvLayout& layout,
    std::byte* const* pages,
    int64_t position,
    const float* keys,
    const float* values) {
  std::byte* page = pages[position / kKvPageTokens];
  if (layout.type == KvType::i16) {
    append<I16Numbers>(layout, page, position, keys, values);
  } else {
    append<F32Numbers>(layout, page, position, keys, values);
  }
}

float load_key(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i) {
  const int64_t n = layout.word_numbers();
  return load(
      layout,
      pages[position / kKvPageTokens] + kv_head * layout.head_bytes(),
      layout.key_word(position, i / n),
      i % n,
      position % kKvPageTokens);
}

float load_value(
    const KvLayout& layout,
    const std::byte* const* pages,
    int64_t kv_head,
    int64_t position,
    int64_t i) {
  const int64_t n = layout.word_numbers();
  const int64_t p = position % kKvPageTokens;
  return load(
      layout,
      pages[position / kKvPageTokens] + kv_head * layout.head_bytes(),
      layout.value_word(p / n, i),
      p % n,
      kKvPageTokens + p);
}

} // namespace mlx_flash::kernels
