// Large blocks of memory that are used again: each step computes arrays of the
// same sizes as the one before, and pages that go back to the system between
// two of them have to be asked for, cleared and mapped again.
//
// Never holds more than what was in use at one time: spare blocks fill only
// the difference to the most that has been.
//
// Thread rule: all functions may be called from any thread.
#pragma once

#include <mlx/allocator.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace mlx_flash::ops {

namespace mx = mlx::core;

class BlockCache {
 public:
  // Smaller ones are the heap's matter.
  static constexpr size_t kLeastBytes = 64 << 10;

  ~BlockCache();

  // Contents are undefined. Throws Error(out_of_budget).
  mx::allocator::Buffer take(size_t bytes);
  // A block that was taken, with the same size.
  void give_back(mx::allocator::Buffer block, size_t bytes);

  // Bytes in use and spare, together.
  size_t held_bytes() const;

 private:
  struct Block {
    mx::allocator::Buffer memory;
    size_t bytes;
  };

  mutable std::mutex mutex_;
  std::vector<Block> spare_; // the longest unused first
  size_t used_bytes_ = 0;
  size_t spare_bytes_ = 0;
  size_t most_used_bytes_ = 0;
};

} // namespace mlx_flash::ops
