// What this program was built from. The values are in a source file that the
// build writes (cmake/write_build_facts.cmake).
//
// Thread rule: free functions without state.
#pragma once

namespace mlx_flash::cli {

struct BuildFacts {
  const char* version; // "0.1.0"
  // Of `git describe`, with "-dirty" behind it for sources that differ from
  // the commit; "unknown" without git.
  const char* commit;
  const char* type; // of the build: "Release"
  const char* compiler; // "GNU 12.2.0"
};

BuildFacts build_facts();

} // namespace mlx_flash::cli
