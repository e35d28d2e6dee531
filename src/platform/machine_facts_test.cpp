#include "platform/machine_facts.h"

#include <doctest/doctest.h>

#include "platform/temp_folder.h"

using namespace mlx_flash;

#ifdef __linux__

TEST_CASE("machine facts: an x86 processor and its largest cache") {
  TempFolder folder;
  folder.write(
      "proc/cpuinfo",
      "processor\t: 0\nmodel\t\t: 207\nmodel name\t: Some(R) CPU @ 2 GHz\n");
  const std::string cpu0 = "sys/devices/system/cpu/cpu0/cache/";
  const auto cache = [&](int index, const char* level, const char* size) {
    const std::string place = cpu0 + "index" + std::to_string(index);
    folder.write(place + "/level", level);
    folder.write(place + "/size", size);
  };
  cache(0, "1\n", "48K\n");
  cache(1, "1\n", "32K\n");
  cache(2, "3\n", "266240K\n");
  cache(3, "2\n", "2M\n");
  folder.write("etc/os-release", "ID=some\nPRETTY_NAME=\"Some Linux 7\"\n");
  const MachineFacts facts = read_machine_facts(folder.path());
  CHECK(facts.cpu == "Some(R) CPU @ 2 GHz");
  CHECK(facts.last_level_cache_bytes == 266240ull << 10);
  CHECK(facts.system.starts_with("Linux "));
  CHECK(facts.system.ends_with(", Some Linux 7"));
}

TEST_CASE("machine facts: an ARM processor is named by its numbers") {
  TempFolder folder;
  folder.write(
      "proc/cpuinfo",
      "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
  CHECK(read_machine_facts(folder.path()).cpu == "implementer 0x41 part 0xd0c");
}

TEST_CASE("machine facts: a board names itself") {
  TempFolder folder;
  folder.write("proc/cpuinfo", "processor\t: 0\n");
  const std::string_view model("Some Board 4\0", 13);
  folder.write("sys/firmware/devicetree/base/model", model);
  CHECK(read_machine_facts(folder.path()).cpu == "Some Board 4");
}

TEST_CASE("machine facts: what nothing says is unknown, and no error") {
  TempFolder folder;
  const MachineFacts facts = read_machine_facts(folder.path());
  CHECK(facts.cpu == "unknown");
  CHECK(facts.last_level_cache_bytes == 0);
  CHECK(facts.system != "");
}

#endif

TEST_CASE("machine facts: this machine has a processor and a system") {
  const MachineFacts facts = read_machine_facts();
  CHECK(facts.cpu != "");
  CHECK(facts.system != "");
}
