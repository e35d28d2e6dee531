#include "platform/cpu_facts.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "platform/cgroup.h"

#ifdef __linux__
#include <sched.h>
#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <vector>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace mlx_flash {

namespace {

#ifdef __linux__
int affinity_cpus() {
  // The kernel refuses sets smaller than its own, whose size it does not tell.
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    std::vector<char> memory(bytes);
    auto* set = reinterpret_cast<cpu_set_t*>(memory.data());
    if (sched_getaffinity(0, bytes, set) == 0) {
      return CPU_COUNT_S(bytes, set);
    }
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}
#else
int affinity_cpus() {
  return static_cast<int>(std::thread::hardware_concurrency());
}
#endif

} // namespace

int usable_cpus(const std::filesystem::path& root) {
  int cpus = affinity_cpus();
  if (const auto quota = cgroup_cpu_quota(root)) {
    // A quota may be a huge number: compare before converting.
    cpus = static_cast<int>(std::min<double>(cpus, std::ceil(*quota)));
  }
  return std::max(cpus, 1);
}

bool cpu_has_byte_dot(int vector_bits) {
#if defined(__x86_64__)
  // Not all compilers know the name of AVX-VNNI: leaf 7.1, EAX, bit 4.
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool avx_vnni =
      __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 16) != 0;
  return vector_bits == 512 ? __builtin_cpu_supports("avx512vnni") != 0
                            : vector_bits == 256 && avx_vnni;
#elif defined(__APPLE__) && defined(__aarch64__)
  return vector_bits == 128; // every Mac with Apple silicon
#elif defined(__linux__) && defined(__aarch64__)
  return vector_bits == 128 && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return vector_bits < 0;
#endif
}

} // namespace mlx_flash
