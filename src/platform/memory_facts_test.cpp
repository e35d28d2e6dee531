// Other machines are described by folders that stand in for "/".
#include "platform/memory_facts.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "platform/memory_watch.h"
#include "platform/sanitized.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

#ifdef __linux__

namespace {

constexpr uint64_t kMiB = 1 << 20;

// 16 GiB of memory, 8 GiB of it available.
struct Machine {
  Machine() {
    folder.write(
        "proc/meminfo",
        "MemTotal:       16777216 kB\n"
        "MemFree:         1048576 kB\n"
        "MemAvailable:    8388608 kB\n"
        "Cached:          2097152 kB\n");
  }

  void v2(
      const std::string& own,
      const std::string& mount_root = "/",
      const std::string& point = "/sys/fs/cgroup") {
    folder.write("proc/self/cgroup", "0::" + own + "\n");
    folder.write(
        "proc/self/mountinfo",
        "23 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "31 23 0:28 " +
            mount_root + " " + point +
            " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

  void v1(const std::string& own, const std::string& mount_root = "/") {
    folder.write(
        "proc/self/cgroup",
        "9:name=systemd:/\n4:memory:" + own + "\n1:cpu,cpuacct:/x\n0::/\n");
    folder.write(
        "proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "35 31 0:32 " +
            mount_root +
            " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  }

  void level2(
      const std::string& name,
      const std::string& max,
      uint64_t current,
      const std::string& stat = "anon 1\ninactive_file 0\nactive_file 0\n") {
    const std::string at = "sys/fs/cgroup" + name + "/";
    folder.write(at + "memory.max", max + "\n");
    folder.write(at + "memory.current", std::to_string(current) + "\n");
    folder.write(at + "memory.stat", stat);
  }

  void level1(
      const std::string& name,
      uint64_t limit,
      uint64_t usage,
      const std::string& stat) {
    const std::string at = "sys/fs/cgroup/memory" + name + "/";
    folder.write(at + "memory.limit_in_bytes", std::to_string(limit) + "\n");
    folder.write(at + "memory.usage_in_bytes", std::to_string(usage) + "\n");
    folder.write(at + "memory.stat", stat);
  }

  MemoryFacts facts() const {
    return read_memory_facts(folder.path());
  }

  TempFolder folder;
};

std::string megabytes(uint64_t n) {
  return std::to_string(n * kMiB);
}

} // namespace

TEST_CASE("memory facts: without cgroups MemAvailable counts") {
  const Machine machine;
  const auto facts = machine.facts();
  CHECK(facts.total_bytes == 16384 * kMiB);
  CHECK(facts.free_bytes == 8192 * kMiB);
  CHECK(facts.bound_by == "MemAvailable");
}

TEST_CASE("memory facts: kernels without MemAvailable count free and cached") {
  Machine machine;
  machine.folder.write(
      "proc/meminfo",
      "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nCached: 2097152 kB\n"
      "SwapCached: 4 kB\n");
  CHECK(machine.facts().free_bytes == 3072 * kMiB);
}

TEST_CASE("memory facts: a machine that says nothing is an error") {
  const TempFolder folder;
  CHECK_THROWS_AS(read_memory_facts(folder.path()), Error);
}

TEST_CASE("memory facts: v2, limit less use of the process's own group") {
  Machine machine;
  machine.v2("/app");
  machine.level2("/app", megabytes(1000), 300 * kMiB);
  const auto facts = machine.facts();
  CHECK(facts.total_bytes == 1000 * kMiB);
  CHECK(facts.free_bytes == 700 * kMiB);
  CHECK(facts.bound_by == "/sys/fs/cgroup/app");
}

TEST_CASE("memory facts: v2, clean page cache does not count as use") {
  Machine machine;
  machine.v2("/app");
  machine.level2(
      "/app",
      megabytes(1000),
      900 * kMiB,
      "anon 5\nfile 7\ninactive_file " + megabytes(400) + "\nactive_file " +
          megabytes(200) + "\nfile_dirty " + megabytes(30) +
          "\nfile_writeback " + megabytes(20) + "\n");
  // 900 - (600 - 50) are in use.
  CHECK(machine.facts().free_bytes == 650 * kMiB);
}

TEST_CASE("memory facts: v2, every level up to the root counts") {
  Machine machine;
  machine.v2("/a/b/c");
  machine.level2("/a/b/c", "max", 10 * kMiB);
  machine.level2("/a/b", megabytes(4000), 100 * kMiB);
  machine.level2("/a", megabytes(5000), 4900 * kMiB);
  const auto facts = machine.facts();
  CHECK(facts.total_bytes == 4000 * kMiB);
  CHECK(facts.free_bytes == 100 * kMiB);
  CHECK(facts.bound_by == "/sys/fs/cgroup/a");
}

TEST_CASE("memory facts: v2, memory.high is a limit too") {
  Machine machine;
  machine.v2("/app");
  machine.level2("/app", "max", 100 * kMiB);
  machine.folder.write("sys/fs/cgroup/app/memory.high", megabytes(600) + "\n");
  CHECK(machine.facts().free_bytes == 500 * kMiB);
}

TEST_CASE("memory facts: use above the limit leaves nothing") {
  Machine machine;
  machine.v2("/app");
  machine.level2("/app", megabytes(100), 101 * kMiB);
  CHECK(machine.facts().free_bytes == 0);
}

TEST_CASE("memory facts: a path that is not visible falls back to the mount") {
  Machine machine;
  machine.level2("", megabytes(512), 12 * kMiB);
  SUBCASE("a cgroup namespace that shows the host's path") {
    machine.v2("/kubepods/pod1/container");
  }
  SUBCASE("a process outside of its namespace's root") {
    machine.v2("/../other");
  }
  SUBCASE("a mount of another part") {
    machine.v2("/system.slice/ssh", "/docker/abc");
  }
  SUBCASE("a mount of the container's own group") {
    machine.v2("/docker/abc", "/docker/abc");
  }
  const auto facts = machine.facts();
  CHECK(facts.free_bytes == 500 * kMiB);
  CHECK(facts.bound_by == "/sys/fs/cgroup");
}

TEST_CASE("memory facts: a mount of the container's group has groups below") {
  Machine machine;
  machine.v2("/docker/abc/worker", "/docker/abc");
  machine.level2("", megabytes(512), 12 * kMiB);
  machine.level2("/worker", megabytes(100), 12 * kMiB);
  const auto facts = machine.facts();
  CHECK(facts.free_bytes == 88 * kMiB);
  CHECK(facts.bound_by == "/sys/fs/cgroup/worker");
}

TEST_CASE("memory facts: mount points with escaped blanks are found") {
  Machine machine;
  machine.v2("/app", "/", "/my\\040groups");
  machine.folder.write("my groups/app/memory.max", megabytes(64) + "\n");
  machine.folder.write("my groups/app/memory.current", "0\n");
  CHECK(machine.facts().free_bytes == 64 * kMiB);
}

TEST_CASE("memory facts: v1, levels, hierarchical page cache, no limit") {
  Machine machine;
  machine.v1("/process_api/job");
  machine.level1(
      "/process_api/job",
      9223372036854771712ull,
      50 * kMiB,
      "inactive_file 0\nhierarchical_memory_limit 9223372036854771712\n");
  machine.level1(
      "/process_api",
      2000 * kMiB,
      1500 * kMiB,
      "inactive_file 1\nactive_file 1\ntotal_inactive_file " + megabytes(300) +
          "\ntotal_active_file " + megabytes(100) + "\ntotal_dirty " +
          megabytes(10) + "\n");
  const auto facts = machine.facts();
  CHECK(facts.total_bytes == 2000 * kMiB);
  CHECK(facts.free_bytes == 890 * kMiB);
  CHECK(facts.bound_by == "/sys/fs/cgroup/memory/process_api");
}

TEST_CASE("memory facts: v1, a limit above what the container sees counts") {
  Machine machine;
  machine.v1("/docker/abc");
  machine.level1(
      "",
      9223372036854771712ull,
      100 * kMiB,
      "hierarchical_memory_limit " + megabytes(300) + "\n");
  CHECK(machine.facts().free_bytes == 200 * kMiB);
}

TEST_CASE("memory pressure: of the own group, or else of the machine") {
  Machine machine;
  const auto pressure = [&] {
    return read_memory_pressure(machine.folder.path());
  };
  CHECK_FALSE(pressure());
  machine.folder.write(
      "proc/pressure/memory",
      "some avg10=2.50 avg60=1.00 avg300=0.50 total=123\n"
      "full avg10=1.00 avg60=0.00 avg300=0.00 total=12\n");
  CHECK(pressure() == doctest::Approx(0.025));
  machine.v2("/a/b");
  machine.level2("/a/b", "max", 1);
  CHECK(pressure() == doctest::Approx(0.025));
  machine.folder.write(
      "sys/fs/cgroup/a/b/memory.pressure", "some avg10=75.00 avg60=1.00\n");
  CHECK(pressure() == doctest::Approx(0.75));
  machine.folder.write("sys/fs/cgroup/a/b/memory.pressure", "some avg9");
  machine.folder.write("proc/pressure/memory", "");
  CHECK_FALSE(pressure());
}

TEST_CASE("memory facts: hostile files of the kernel's names do not matter") {
  Machine machine;
  machine.v2("/app");
  machine.level2("/app", "99999999999999999999999999", 1, "inactive_file x\n");
  machine.folder.write("proc/self/cgroup", "\n::\nabc\n0::/app");
  CHECK(machine.facts().free_bytes == 8192 * kMiB);
}

#endif

TEST_CASE("memory facts: this machine has memory, not more free than all") {
  const auto facts = read_memory_facts();
  CHECK(facts.total_bytes > 0);
  CHECK(facts.free_bytes > 0);
  CHECK(facts.free_bytes <= facts.total_bytes);
  CHECK_FALSE(facts.bound_by.empty());
}

#ifdef __GLIBC__
TEST_CASE("memory facts: a configured allocator gives large blocks back") {
  if (kSanitized) {
    return;
  }
  configure_allocator();
  release_free_memory(); // what other tests left
  // Freeing a block of this size makes an unconfigured glibc keep later ones.
  // `volatile`: nothing reads the blocks, so that all could be left out.
  void* volatile block = std::malloc(24 << 20);
  std::free(block);
  const uint64_t before = anonymous_memory_bytes();
  block = std::malloc(8 << 20);
  for (size_t i = 0; i < 8 << 20; i += 4096) {
    static_cast<volatile char*>(block)[i] = 1;
  }
  CHECK(anonymous_memory_bytes() > before + (6 << 20));
  std::free(block);
  CHECK(anonymous_memory_bytes() < before + (2 << 20));
}

TEST_CASE("memory facts: freed small blocks can be given back") {
  if (kSanitized) {
    return;
  }
  std::vector<std::unique_ptr<char[]>> blocks(1 << 16);
  for (auto& block : blocks) {
    block.reset(new char[512]);
    static_cast<volatile char*>(block.get())[0] = 1;
  }
  // Those that stay keep the allocator from shrinking its heap by itself.
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 64 != 0) {
      blocks[i].reset();
    }
  }
  const uint64_t before = anonymous_memory_bytes();
  release_free_memory();
  CHECK(anonymous_memory_bytes() + (16 << 20) < before);
}
#endif
