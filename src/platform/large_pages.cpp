#include "platform/large_pages.h"

#ifdef __linux__
#include <sys/mman.h>

#include <cstdint>

#include "base/align.h"
#endif

namespace mlx_flash {

#ifdef __linux__
void prefer_large_pages(std::span<std::byte> memory) {
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  const uint64_t first = round_up(begin, kLargePageBytes);
  const uint64_t last =
      (begin + memory.size()) / kLargePageBytes * kLargePageBytes;
  if (first < last) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
}
#else
// macOS has pages of 16 KiB and larger ones of its own choice.
void prefer_large_pages(std::span<std::byte>) {}
#endif

} // namespace mlx_flash
