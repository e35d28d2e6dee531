#include "base/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/align.h"
#include "base/error.h"

namespace mlx_flash {

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) {
    return;
  }
  bytes_ = round_up(bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  void* p = mmap(
      nullptr,
      bytes_,
      PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS,
      -1,
      0);
  if (p == MAP_FAILED) {
    fail(
        ErrorCode::out_of_budget,
        "[memory] the system refused {} bytes; give --memory less",
        bytes_);
  }
  data_ = static_cast<std::byte*>(p);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_) {
    munmap(data_, bytes_);
  }
}

} // namespace mlx_flash
