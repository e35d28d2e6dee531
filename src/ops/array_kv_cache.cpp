#include "ops/array_kv_cache.h"

#include <mlx/ops.h>

#include "base/align.h"
#include "base/check.h"

namespace mlx_flash::ops {

ArrayKvCache::ArrayKvCache(
    const KvShape& shape,
    int64_t tokens,
    mx::Dtype dtype,
    mx::Stream stream)
    : shape_(shape),
      dtype_(dtype),
      stream_(stream),
      free_pages_(static_cast<int>(div_up(tokens, kKvPageTokens))) {}

int ArrayKvCache::add_sequence() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (!sequences_[i].used) {
      sequences_[i].used = true;
      return static_cast<int>(i);
    }
  }
  Sequence sequence;
  sequence.used = true;
  sequence.layers.resize(shape_.layers);
  sequences_.push_back(std::move(sequence));
  return static_cast<int>(sequences_.size()) - 1;
}

void ArrayKvCache::remove_sequence(int sequence) {
  set_length(sequence, 0);
  Sequence& s = sequences_[sequence];
  s.used = false;
}

int ArrayKvCache::length(int sequence) const {
  return sequences_[sequence].length;
}

void ArrayKvCache::set_length(int sequence, int length) {
  Sequence& s = sequences_[sequence];
  const int needed = static_cast<int>(div_up(length, kKvPageTokens));
  MLX_FLASH_CHECK(s.used && length >= 0 && needed <= s.pages);
  if (std::exchange(s.length, length) < length) {
    return;
  }
  free_pages_ += s.pages - needed;
  s.pages = needed;
  if (needed == 0) {
    s.layers.assign(shape_.layers, {}); // the pages are others' now
  }
}

bool ArrayKvCache::reserve(int sequence, int length) {
  Sequence& s = sequences_[sequence];
  const int needed = static_cast<int>(div_up(length, kKvPageTokens));
  if (needed - s.pages > free_pages_) {
    return false;
  }
  if (needed > s.pages) {
    free_pages_ -= needed - s.pages;
    s.pages = needed;
  }
  return true;
}

void ArrayKvCache::grow(std::optional<mx::array>& held, int capacity) const {
  const int now = held ? held->shape(2) : 0;
  if (now >= capacity) {
    return;
  }
  const int pages = static_cast<int>(div_up(capacity, kKvPageTokens));
  const auto more = mx::zeros(
      {1, shape_.kv_heads, pages * kKvPageTokens - now, shape_.head_dim},
      dtype_,
      stream_);
  held = held ? mx::concatenate({*held, more}, 2, stream_) : more;
}

std::pair<mx::array, mx::array> ArrayKvCache::update(
    int sequence,
    int layer,
    int start,
    const mx::array& keys,
    const mx::array& values) {
  Layer& held = sequences_[sequence].layers[layer];
  const int end = start + keys.shape(2);
  const mx::Shape first{0, 0, start, 0};
  const mx::Shape last{1, shape_.kv_heads, end, shape_.head_dim};
  const mx::Shape origin{0, 0, 0, 0};
  grow(held.keys, end);
  grow(held.values, end);
  held.keys = mx::slice_update(*held.keys, keys, first, last, stream_);
  held.values = mx::slice_update(*held.values, values, first, last, stream_);
  return {
      mx::slice(*held.keys, origin, last, stream_),
      mx::slice(*held.values, origin, last, stream_)};
}

} // namespace mlx_flash::ops
