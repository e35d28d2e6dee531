#include "platform/large_pages.h"

#ifdef __linux__
#include <sys/mman.h>

#include "base/align.h"
#endif

namespace mlx_flash {

#ifdef __linux__
void prefer_large_pages(std::span<std::byte> memory) {
  const auto pages = whole_blocks(memory, kLargePageBytes);
  if (!pages.empty()) {
    madvise(pages.data(), pages.size(), MADV_HUGEPAGE);
  }
}
#else
// macOS has pages of 16 KiB and larger ones of its own choice.
void prefer_large_pages(std::span<std::byte>) {}
#endif

} // namespace mlx_flash
