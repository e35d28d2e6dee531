// Any bytes as a safetensors header: an Error or tensors that cover the file.
// The first two bytes say how much data follows the header.
#include <cstdlib>

#include "mlx_flash/error.h"
#include "storage/safetensors_index.h"

using namespace mlx_flash;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string_view header(
      reinterpret_cast<const char*>(data) + 2, size - 2);
  const uint64_t file_bytes = 8 + header.size() + data[0] + 256u * data[1];
  try {
    uint64_t covered = 8 + header.size();
    for (const auto& tensor :
         parse_safetensors_header(header, file_bytes, "fuzz")) {
      if (tensor.offset != covered) {
        std::abort();
      }
      covered += tensor.bytes;
    }
    if (covered != file_bytes) {
      std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
