#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mlx_flash::detail {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(
      stderr,
      "mlx-flash: internal error: %s (%s:%d); please report it\n",
      condition,
      file,
      line);
  std::abort();
}

} // namespace mlx_flash::detail
