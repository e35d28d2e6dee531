#include "storage/dtype.h"

#include <doctest/doctest.h>

using namespace mlx_flash;

TEST_CASE("dtype: every name is found again, with its size") {
  for (int i = 0; i <= static_cast<int>(Dtype::f8_e8m0); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    CHECK(parse_dtype(dtype_name(dtype)) == dtype);
  }
  CHECK(dtype_bytes(Dtype::boolean) == 1);
  CHECK(dtype_bytes(Dtype::bf16) == 2);
  CHECK(dtype_bytes(Dtype::u32) == 4);
  CHECK(dtype_bytes(Dtype::f64) == 8);
  CHECK(dtype_bytes(Dtype::f8_e8m0) == 1);
  CHECK(dtype_name(Dtype::f8_e5m2) == "F8_E5M2");
}

TEST_CASE("dtype: other names are none") {
  for (const char* name : {"", "f32", "F4", "F32 ", "FLOAT", "F8"}) {
    CHECK_FALSE(parse_dtype(name));
  }
}
