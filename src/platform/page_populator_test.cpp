#include "platform/page_populator.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/aligned_buffer.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace mlx_flash {
namespace {

#ifdef __linux__
size_t pages_present(std::span<std::byte> memory) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> present((memory.size() + page - 1) / page);
  REQUIRE(mincore(memory.data(), memory.size(), present.data()) == 0);
  size_t count = 0;
  for (const unsigned char p : present) {
    count += p & 1;
  }
  return count;
}

struct Mapping {
  explicit Mapping(size_t bytes)
      : memory(
            static_cast<std::byte*>(mmap(
                nullptr,
                bytes,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS,
                -1,
                0)),
            bytes) {}
  ~Mapping() {
    munmap(memory.data(), memory.size());
  }
  std::span<std::byte> memory;
};

// Linux can since 5.14.
bool can_populate() {
  constexpr int kPopulateWrite = 23; // MADV_POPULATE_WRITE
  const Mapping mapping(1 << 20);
  return madvise(
             mapping.memory.data(), mapping.memory.size(), kPopulateWrite) == 0;
}

TEST_CASE("page populator: memory has its pages before it is touched") {
  const Mapping mapping(64 << 20);
  CHECK(pages_present(mapping.memory) == 0);
  PagePopulator populator(2);
  populator.populate(mapping.memory.first(40 << 20));
  populator.finish();
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (!can_populate()) {
    return; // pages come when they are used
  }
  CHECK(pages_present(mapping.memory.first(40 << 20)) == (40 << 20) / page);
  CHECK(pages_present(mapping.memory.subspan(42 << 20)) == 0);
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
