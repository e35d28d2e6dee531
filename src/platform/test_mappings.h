// What tests can see of a process's pages. On Linux: elsewhere can_populate()
// and can_hint_large_pages() are false, and nothing else is to be asked.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/align.h"

namespace mlx_flash {

inline size_t page_bytes() {
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

#ifdef __linux__

// Fresh memory; nothing of it is there yet.
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
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<std::byte> memory;
};

// Of the pages that lie in `memory` as a whole.
inline size_t pages_present(std::span<std::byte> memory) {
  const auto pages = whole_blocks(memory, page_bytes());
  std::vector<unsigned char> present(pages.size() / page_bytes(), 0);
  REQUIRE(mincore(pages.data(), pages.size(), present.data()) == 0);
  size_t count = 0;
  for (const unsigned char p : present) {
    count += p & 1;
  }
  return count;
}

// Linux can since 5.14. An emulator of it may say so and do nothing.
inline bool can_populate() {
  constexpr int kPopulateWrite = 23; // MADV_POPULATE_WRITE
  const Mapping mapping(1 << 20);
  const auto memory = mapping.memory;
  return madvise(memory.data(), memory.size(), kPopulateWrite) == 0 &&
      pages_present(memory) == memory.size() / page_bytes();
}

// Bytes at addresses from `first` to `last` that large pages were asked for,
// whether or not the system has any.
inline uint64_t large_page_hint_bytes(uintptr_t first, uintptr_t last) {
  std::ifstream file("/proc/self/smaps");
  uint64_t total = 0;
  uint64_t size = 0; // of what of the mapping lies there
  for (std::string line; std::getline(file, line);) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &begin, &end) ==
        2) {
      begin = std::max<uint64_t>(begin, first);
      end = std::min<uint64_t>(end, last);
      size = begin < end ? end - begin : 0;
    } else if (
        line.starts_with("VmFlags:") &&
        (line + ' ').find(" hg ") != std::string::npos) {
      total += size;
    }
  }
  return total;
}

inline uint64_t large_page_hint_bytes(std::span<const std::byte> memory) {
  const auto first = reinterpret_cast<uintptr_t>(memory.data());
  return large_page_hint_bytes(first, first + memory.size());
}
// Of all memory of this process.
inline uint64_t large_page_hint_bytes() {
  return large_page_hint_bytes(0, UINTPTR_MAX);
}

// Some kernels are built without large pages.
inline bool can_hint_large_pages() {
  const Mapping mapping(4 << 20);
  madvise(mapping.memory.data(), mapping.memory.size(), MADV_HUGEPAGE);
  return large_page_hint_bytes(mapping.memory) > 0;
}

#else
inline size_t pages_present(std::span<std::byte>) {
  return 0;
}
inline bool can_populate() {
  return false;
}
inline uint64_t large_page_hint_bytes(std::span<const std::byte>) {
  return 0;
}
inline uint64_t large_page_hint_bytes() {
  return 0;
}
inline bool can_hint_large_pages() {
  return false;
}
#endif

} // namespace mlx_flash
