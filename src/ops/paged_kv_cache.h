// Keys and values in f32 pages of one pool, for the CPU back-end. Fixed
// memory; nothing is allocated per token but page numbers.
//
// Thread rule: as KvCache.
#pragma once

#include <vector>

#include "kernels/attention.h"
#include "ops/device_buffer.h"
#include "ops/kv_cache.h"

namespace mlx_flash::ops {

class PagedKvCache : public KvCache {
 public:
  PagedKvCache(const KvShape& shape, int64_t tokens);

  int add_sequence() override;
  void remove_sequence(int sequence) override;
  int length(int sequence) const override;
  void set_length(int sequence, int length) override;
  bool reserve(int sequence, int length) override;

  // The pages of `sequence` in `layer`, in the order of positions.
  std::vector<kernels::KvPage> pages(int sequence, int layer) const;

  size_t free_pages() const {
    return free_.size();
  }

 private:
  struct Sequence {
    bool used = false;
    int length = 0;
    std::vector<uint32_t> pages;
  };

  const KvShape shape_;
  const uint64_t page_bytes_;
  DeviceBuffer memory_;
  std::vector<uint32_t> free_;
  std::vector<Sequence> sequences_;
};

} // namespace mlx_flash::ops
