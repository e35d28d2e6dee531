#include "platform/cpu_facts.h"

#include <doctest/doctest.h>

#include "platform/cgroup.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

#ifdef __linux__

namespace {

struct Machine {
  void v2(const std::string& own) {
    folder.write("proc/self/cgroup", "0::" + own + "\n");
    folder.write(
        "proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 none rw\n");
  }
  void v1(const std::string& own) {
    folder.write("proc/self/cgroup", "3:cpu,cpuacct:" + own + "\n");
    folder.write(
        "proc/self/mountinfo",
        "32 31 0:29 / /cg/cpu rw - cgroup none rw,cpu,cpuacct\n"
        "33 31 0:30 / /cg/cpuset rw - cgroup none rw,cpuset\n");
  }
  std::optional<double> quota() const {
    return cgroup_cpu_quota(folder.path());
  }
  int cpus() const {
    return usable_cpus(folder.path());
  }

  TempFolder folder;
};

} // namespace

TEST_CASE("cpu facts: v2, the tightest quota of all levels counts") {
  Machine machine;
  machine.v2("/a/b");
  CHECK_FALSE(machine.quota());
  machine.folder.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  CHECK_FALSE(machine.quota());
  machine.folder.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  CHECK(machine.quota() == 1.5);
  machine.folder.write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  CHECK(machine.quota() == 0.5);
  CHECK(machine.cpus() == 1);
}

TEST_CASE("cpu facts: v1, the tightest quota of all levels counts") {
  Machine machine;
  machine.v1("/a/b");
  machine.folder.write("cg/cpu/a/b/cpu.cfs_quota_us", "-1\n");
  machine.folder.write("cg/cpu/a/b/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(machine.quota());
  machine.folder.write("cg/cpu/a/cpu.cfs_quota_us", "25000\n");
  machine.folder.write("cg/cpu/a/cpu.cfs_period_us", "100000\n");
  CHECK(machine.quota() == 0.25);
  CHECK(machine.cpus() == 1);
}

TEST_CASE("cpu facts: a quota is rounded up, and never above the affinity") {
  Machine machine;
  const int affinity = machine.cpus(); // nothing described: no quota
  machine.v2("/");
  machine.folder.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  CHECK(machine.cpus() == std::min(affinity, 2));
  machine.folder.write("sys/fs/cgroup/cpu.max", "900000000000000 1\n");
  CHECK(machine.cpus() == affinity);
}

#endif

TEST_CASE("cpu facts: this machine can run a thread") {
  CHECK(usable_cpus() >= 1);
}
