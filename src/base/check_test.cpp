#include "base/check.h"

#include <doctest/doctest.h>

#include "base/check_test.h"

using namespace mlx_flash;

TEST_CASE("check: a false condition ends the process, a true one does not") {
  CHECK(fails_check([] { MLX_FLASH_CHECK(1 + 1 == 3); }));
  CHECK_FALSE(fails_check([] { MLX_FLASH_CHECK(1 + 1 == 2); }));
}

TEST_CASE(
    "check: a condition is evaluated once, and not at all by dcheck in "
    "builds without checks") {
  int calls = 0;
  MLX_FLASH_CHECK(++calls > 0);
  CHECK(calls == 1);
  MLX_FLASH_DCHECK(++calls > 0);
#ifdef NDEBUG
  CHECK(calls == 1);
#else
  CHECK(calls == 2);
  CHECK(fails_check([] { MLX_FLASH_DCHECK(false); }));
#endif
}
