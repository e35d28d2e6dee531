// Large pages for memory that is read from end to end again and again, such as
// weights: fewer address translations, and prefetching that does not stop
// every 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mlx_flash {

// Of Linux on every processor we know; a page that is touched is there whole.
inline constexpr uint64_t kLargePageBytes = 2 << 20;

// Asks for large pages wherever `memory` has room for a whole one; nothing
// outside of it is touched. A hint: results are the same without.
void prefer_large_pages(std::span<std::byte> memory);

} // namespace mlx_flash
