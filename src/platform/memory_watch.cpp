#include "platform/memory_watch.h"

#include <algorithm>
#include <chrono>

#ifdef __linux__
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#else
#include <mach/mach.h>
#endif

namespace mlx_flash {

#ifdef __linux__

// The second and third field of statm: resident pages, and those of them that
// are of files or shared.
uint64_t anonymous_memory_bytes() {
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t n = pread(file, text, sizeof(text) - 1, 0);
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
  task_vm_info_data_t info{};
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  task_info(
      mach_task_self(),
      TASK_VM_INFO,
      reinterpret_cast<task_info_t>(&info),
      &count);
  return info.phys_footprint;
}

#endif

void MemoryWatch::sample(uint64_t transient_bytes) {
  include(anonymous_memory_bytes() + transient_bytes);
}

void MemoryWatch::include(uint64_t bytes) {
  uint64_t peak = peak_bytes();
  while (bytes > peak &&
         !peak_bytes_.compare_exchange_weak(
             peak, bytes, std::memory_order_relaxed)) {
  }
}

MemoryFollower::MemoryFollower() : thread_([this] { follow(); }) {}

MemoryFollower::~MemoryFollower() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void MemoryFollower::follow() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    watch_.sample();
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
}

uint64_t MemoryFollower::peak_bytes() const {
  return std::max(watch_.peak_bytes(), anonymous_memory_bytes());
}

} // namespace mlx_flash
