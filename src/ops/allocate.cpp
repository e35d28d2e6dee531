#include "ops/allocate.h"

#include "base/error.h"

namespace mlx_flash::ops {

namespace {

void require(const mx::allocator::Buffer& buffer, size_t bytes) {
  if (!buffer.ptr()) {
    fail(
        ErrorCode::out_of_budget,
        "[memory] the system refuses {} bytes; give a smaller --memory or end "
        "other programs",
        bytes);
  }
}

} // namespace

mx::allocator::Data allocate(size_t bytes) {
  auto data = mx::allocator::malloc(bytes);
  require(data.buffer(), bytes);
  return data;
}

mx::allocator::Buffer allocate_buffer(size_t bytes) {
  const auto buffer = mx::allocator::allocator().malloc(bytes);
  require(buffer, bytes);
  return buffer;
}

} // namespace mlx_flash::ops
