#include "platform/memory_watch.h"

#include <algorithm>

#include "platform/memory_facts.h"

#ifdef __linux__
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#endif

namespace mlx_flash {

#ifdef __linux__

// The second and third field of statm: resident pages, and those of them that
// are of files or shared.
uint64_t anonymous_memory_bytes() {
  char text[128];
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  const ssize_t n = file < 0 ? 0 : read(file, text, sizeof(text) - 1);
  if (file >= 0) {
    close(file);
  }
  if (n <= 0) {
    return 0;
  }
  text[n] = '\0';
  char* at = text;
  std::strtoull(at, &at, 10);
  const uint64_t resident = std::strtoull(at, &at, 10);
  const uint64_t shared = std::strtoull(at, &at, 10);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return resident > shared ? (resident - shared) * page : 0;
}

#else

uint64_t anonymous_memory_bytes() {
  return current_memory_bytes();
}

#endif

MemoryWatch::MemoryWatch() : peak_bytes_(peak_memory_bytes()) {}

void MemoryWatch::sample(uint64_t transient_bytes) {
  peak_bytes_ = std::max(
      peak_bytes_.load(std::memory_order_relaxed),
      anonymous_memory_bytes() + transient_bytes);
}

} // namespace mlx_flash
