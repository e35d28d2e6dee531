#include "base/aligned_buffer.h"

#include <doctest/doctest.h>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "mlx_flash/error.h"

using namespace mlx_flash;

static_assert(!std::is_copy_constructible_v<AlignedBuffer>);

TEST_CASE("aligned buffer: whole zeroed pages") {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  AlignedBuffer buffer(page + 1);
  CHECK(buffer.size() == 2 * page);
  CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % page == 0);
  const auto bytes = buffer.span();
  CHECK(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) {
    return b == std::byte{0};
  }));
  std::fill(bytes.begin(), bytes.end(), std::byte{1});
}

TEST_CASE("aligned buffer: none at all is an empty span") {
  CHECK(AlignedBuffer().span().empty());
  CHECK(AlignedBuffer(0).span().empty());
}

TEST_CASE("aligned buffer: moving hands the memory over") {
  AlignedBuffer a(1);
  a.data()[0] = std::byte{7};
  std::byte* const data = a.data();
  AlignedBuffer b = std::move(a);
  CHECK(b.data() == data);
  CHECK(a.span().empty());
  AlignedBuffer c;
  c = std::move(b);
  CHECK(c.data()[0] == std::byte{7});
}

TEST_CASE("aligned buffer: what the system refuses is an error with a size") {
  try {
    AlignedBuffer buffer(size_t{1} << 60);
    FAIL("2^60 bytes were had");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_budget);
    CHECK(
        std::string(error.what()).find("1152921504606846976") !=
        std::string::npos);
  }
}
