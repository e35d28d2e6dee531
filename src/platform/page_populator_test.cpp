#include "platform/page_populator.h"

#include <doctest/doctest.h>

#include "base/aligned_buffer.h"
#include "platform/test_mappings.h"

namespace mlx_flash {
namespace {

#ifdef __linux__
TEST_CASE("page populator: memory has its pages before it is touched") {
  const Mapping mapping(64 << 20);
  CHECK(pages_present(mapping.memory) == 0);
  PagePopulator populator(2);
  populator.populate(mapping.memory.first(40 << 20));
  populator.finish();
  if (!can_populate()) {
    return; // pages come when they are used
  }
  CHECK(
      pages_present(mapping.memory.first(40 << 20)) ==
      (40 << 20) / page_bytes());
  CHECK(pages_present(mapping.memory.subspan(42 << 20)) == 0);
}

TEST_CASE("page populator: no page is left out between pieces") {
  if (!can_populate()) {
    return;
  }
  const Mapping mapping(9 << 20);
  // A large page would hide the small one that is missing.
  madvise(mapping.memory.data(), mapping.memory.size(), MADV_NOHUGEPAGE);
  PagePopulator populator(1);
  populator.populate(mapping.memory.subspan(100)); // not at a page's start
  populator.finish();
  CHECK(pages_present(mapping.memory) == (9 << 20) / page_bytes() - 1);
  CHECK(pages_present(mapping.memory.first(page_bytes())) == 0);
}
#endif

TEST_CASE("page populator: what others write meanwhile stays") {
  AlignedBuffer buffer(32 << 20);
  const auto memory = buffer.span();
  PagePopulator populator(3);
  populator.populate(memory.subspan(100)); // not at a page's start
  for (size_t i = 0; i < memory.size(); i += 512) {
    memory[i] = std::byte{7};
  }
  populator.finish();
  size_t changed = 0;
  for (size_t i = 0; i < memory.size(); i += 512) {
    changed += memory[i] != std::byte{7};
  }
  CHECK(changed == 0);
}

TEST_CASE("page populator: ends with work left, and without any") {
  AlignedBuffer buffer(64 << 20);
  {
    PagePopulator populator(1);
  }
  PagePopulator populator(1);
  populator.populate(buffer.span());
  populator.populate({});
}

} // namespace
} // namespace mlx_flash
