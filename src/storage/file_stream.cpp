#include "storage/file_stream.h"

#include <algorithm>
#include <memory>

namespace mlx_flash {

JsonScanner::Refill
stream_file(const DirectFile& file, uint64_t begin, uint64_t end) {
  constexpr uint64_t kChunk = 256 << 10;
  // Shared because a std::function must be copyable.
  auto chunk = std::make_shared<std::vector<char>>(
      static_cast<size_t>(std::min(kChunk, end - begin)));
  return [&file, chunk, at = begin, end]() mutable -> std::string_view {
    const auto bytes =
        static_cast<size_t>(std::min<uint64_t>(chunk->size(), end - at));
    if (bytes > 0) {
      file.read_exactly(
          at, std::as_writable_bytes(std::span(*chunk)).first(bytes));
    }
    at += bytes;
    return {chunk->data(), bytes};
  };
}

} // namespace mlx_flash
