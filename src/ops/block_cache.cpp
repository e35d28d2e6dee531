#include "ops/block_cache.h"

#include <algorithm>

#include "ops/allocate.h"

namespace mlx_flash::ops {

BlockCache::~BlockCache() {
  for (const Block& block : spare_) {
    mx::allocator::allocator().free(block.memory);
  }
}

mx::allocator::Buffer BlockCache::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(spare_.rbegin(), spare_.rend(), [&](const Block& block) {
        return block.bytes == bytes;
      });
  if (found != spare_.rend()) {
    const mx::allocator::Buffer memory = found->memory;
    spare_.erase(std::next(found).base());
    spare_bytes_ -= bytes;
    used_bytes_ += bytes;
    return memory;
  }
  const size_t used = used_bytes_ + bytes;
  const size_t most = std::max(most_used_bytes_, used);
  while (used + spare_bytes_ > most) {
    mx::allocator::allocator().free(spare_.front().memory);
    spare_bytes_ -= spare_.front().bytes;
    spare_.erase(spare_.begin());
  }
  const mx::allocator::Buffer memory = allocate_buffer(bytes);
  used_bytes_ = used;
  most_used_bytes_ = most;
  return memory;
}

void BlockCache::give_back(mx::allocator::Buffer block, size_t bytes) {
  const std::lock_guard lock(mutex_);
  spare_.push_back({block, bytes});
  spare_bytes_ += bytes;
  used_bytes_ -= bytes;
}

size_t BlockCache::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_ + spare_bytes_;
}

} // namespace mlx_flash::ops
