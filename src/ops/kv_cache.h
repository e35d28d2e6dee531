// Keys and values of the sequences in flight. Attention (ops.h) writes the
// rows of a step behind each sequence's length; the step's owner moves the
// length once the step has succeeded, so that a failed step leaves no trace.
//
// Thread rule: the engine thread between steps, the step during one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_page.h"

namespace mlx_flash::ops {

struct KvShape {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

class KvCache {
 public:
  virtual ~KvCache() = default;

  // An empty sequence's number.
  virtual int add_sequence() = 0;
  virtual void remove_sequence(int sequence) = 0;

  virtual int length(int sequence) const = 0;
  // Longer declares rows that a step has written, and keeps what room is
  // reserved beyond them. Shorter forgets, and equal gives up that room.
  virtual void set_length(int sequence, int length) = 0;

  // Makes room for `length` tokens of `sequence`. False, with nothing
  // changed, when the cache is full.
  [[nodiscard]] virtual bool reserve(int sequence, int length) = 0;

  // Pages that nobody has.
  virtual size_t free_pages() const = 0;

  // What it keeps all keys and values in; empty if that comes and goes.
  virtual std::span<std::byte> memory() const {
    return {};
  }
};

// Tokens of one page; memory is reserved by whole pages.
inline constexpr int kKvPageTokens = static_cast<int>(kernels::kKvPageTokens);

// Bytes of one page of keys and values of every layer.
inline uint64_t kv_page_bytes(const KvShape& shape, kernels::KvType type) {
  const kernels::KvLayout layer{shape.kv_heads, shape.head_dim, type};
  return static_cast<uint64_t>(shape.layers * layer.page_bytes());
}

} // namespace mlx_flash::ops
