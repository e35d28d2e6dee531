// Keys and values in pages of one pool, for the CPU back-end. Fixed memory;
// nothing is allocated per token but page numbers.
//
// Thread rule: as KvCache.
#pragma once

#include <span>
#include <vector>

#include "kernels/kv_page.h"
#include "ops/device_buffer.h"
#include "ops/kv_cache.h"

namespace mlx_flash::ops {

class PagedKvCache : public KvCache {
 public:
  PagedKvCache(const KvShape& shape, int64_t tokens, kernels::KvType type);

  int add_sequence() override;
  void remove_sequence(int sequence) override;
  int length(int sequence) const override;
  void set_length(int sequence, int length) override;
  bool reserve(int sequence, int length) override;

  // How each layer's part of a page is laid out.
  const kernels::KvLayout& layout() const {
    return layout_;
  }

  size_t page_count(int sequence) const;
  // Appends the pages of `sequence` in `layer`, in the order of positions.
  void append_pages(int sequence, int layer, std::vector<std::byte*>& pages)
      const;

  std::span<std::byte> memory() const override {
    return memory_.span();
  }

  size_t free_pages() const {
    return free_.size();
  }

 private:
  struct Sequence {
    bool used = false;
    int length = 0;
    std::vector<uint32_t> pages;
  };

  const kernels::KvLayout layout_;
  const uint64_t page_bytes_; // of all layers
  DeviceBuffer memory_;
  std::vector<uint32_t> free_;
  std::vector<Sequence> sequences_;
};

} // namespace mlx_flash::ops
