// Keys and values as one MLX array per sequence and layer, for the stock
// operations. Arrays grow by whole blocks of tokens.
//
// Thread rule: as KvCache.
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <optional>
#include <utility>
#include <vector>

#include "ops/kv_cache.h"

namespace mlx_flash::ops {

namespace mx = mlx::core;

class ArrayKvCache : public KvCache {
 public:
  ArrayKvCache(
      const KvShape& shape,
      int64_t tokens,
      mx::Dtype dtype,
      mx::Stream stream);

  int add_sequence() override;
  void remove_sequence(int sequence) override;
  int length(int sequence) const override;
  void set_length(int sequence, int length) override;
  bool reserve(int sequence, int length) override;

  size_t free_pages() const override {
    return static_cast<size_t>(free_pages_);
  }

  // Writes keys and values [1, kv_heads, n, head_dim] from position `start`
  // on and returns those of positions 0 .. start + n - 1.
  std::pair<mx::array, mx::array> update(
      int sequence,
      int layer,
      int start,
      const mx::array& keys,
      const mx::array& values);

 private:
  struct Layer {
    std::optional<mx::array> keys; // [1, kv_heads, capacity, head_dim]
    std::optional<mx::array> values;
  };
  struct Sequence {
    bool used = false;
    int length = 0;
    int pages = 0;
    std::vector<Layer> layers;
  };

  void grow(std::optional<mx::array>& held, int capacity) const;

  const KvShape shape_;
  const mx::Dtype dtype_;
  const mx::Stream stream_;
  int free_pages_ = 0;
  std::vector<Sequence> sequences_;
};

} // namespace mlx_flash::ops
