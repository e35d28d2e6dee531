// What a measurement says about the machine that it was made on. Memory is in
// memory_facts.h, the processors that may be used are in cpu_facts.h.
//
// Thread rule: free functions without state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mlx_flash {

struct MachineFacts {
  std::string cpu; // the processor's model, "unknown" where nothing says it
  std::string system; // "Linux 6.1.0 x86_64, Debian GNU/Linux 12 (bookworm)"
  // Of one of the largest caches, which several processors may share; 0 where
  // nothing says it.
  uint64_t last_level_cache_bytes = 0;
};

// `root` replaces "/" so that tests can describe other machines (Linux).
MachineFacts read_machine_facts(const std::filesystem::path& root = "/");

} // namespace mlx_flash
