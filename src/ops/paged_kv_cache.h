// Keys and values in pages of one pool, for the CPU back-end. Fixed memory;
// nothing is allocated per token but page numbers.
//
// Sequences that begin alike can have the pages of their beginning in common. A
// page counts its users and is free again after the last one; a sequence that
// is about to write to one that others use gets a copy first.
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

  // The pages of a sequence, in the order of positions.
  std::span<const uint32_t> pages(int sequence) const {
    return sequences_[sequence].pages;
  }
  // Lets an empty sequence begin with these pages, all of them full.
  void begin_with(int sequence, std::span<const uint32_t> pages);
  // Somebody else keeps the page too, until release().
  void retain(uint32_t page);
  void release(uint32_t page);
  uint32_t users(uint32_t page) const {
    return users_[page];
  }

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
  // Keys and values of every layer. Who has the page alone may write to it.
  std::span<std::byte> page(uint32_t page) const {
    return memory_.span().subspan(page * page_bytes_, page_bytes_);
  }

  size_t free_pages() const override {
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
  uint32_t take_page();

  std::vector<uint32_t> free_;
  std::vector<uint32_t> users_; // of each page
  std::vector<Sequence> sequences_;
};

} // namespace mlx_flash::ops
