#ifdef __APPLE__

#include <mach/mach.h>
#include <malloc/malloc.h>
#include <sys/sysctl.h>

#include "base/error.h"
#include "platform/memory_facts.h"

namespace mlx_flash {

namespace {

uint64_t physical_bytes() {
  uint64_t bytes = 0;
  size_t size = sizeof(bytes);
  if (sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) != 0) {
    fail(
        ErrorCode::io,
        "[memory] the system does not say how much memory there is; give "
        "--memory in bytes");
  }
  return bytes;
}

} // namespace

// Free pages, and those that the system takes back without writing: purgeable
// ones and those that mirror files.
MemoryFacts read_memory_facts(const std::filesystem::path&) {
  MemoryFacts facts{physical_bytes(), 0, "vm_statistics64"};
  vm_statistics64_data_t pages{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const mach_port_t host = mach_host_self();
  vm_size_t page_bytes = 0;
  host_page_size(host, &page_bytes);
  if (host_statistics64(
          host,
          HOST_VM_INFO64,
          reinterpret_cast<host_info64_t>(&pages),
          &count) == KERN_SUCCESS) {
    facts.free_bytes = (static_cast<uint64_t>(pages.free_count) +
                        pages.external_page_count + pages.purgeable_count) *
        page_bytes;
  }
  return facts;
}

std::optional<double> read_memory_pressure(const std::filesystem::path&) {
  int level = 0; // 1, 2 or 4
  size_t size = sizeof(level);
  if (sysctlbyname(
          "kern.memorystatus_vm_pressure_level", &level, &size, nullptr, 0) !=
      0) {
    return std::nullopt;
  }
  return level >= 4 ? 1.0 : level >= 2 ? 0.5 : 0.0;
}

void configure_allocator() {}

void release_free_memory() {
  malloc_zone_pressure_relief(nullptr, 0);
}

} // namespace mlx_flash

#endif
