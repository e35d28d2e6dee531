#include "storage/safetensors_index.h"

#include "platform/direct_file.h"
#include "storage/tensor_table.h"

namespace mlx_flash {

std::vector<TensorInfo> parse_safetensors_header(
    std::string_view header,
    uint64_t file_bytes,
    const std::filesystem::path& path) {
  TensorTable table;
  table.add_text(header, file_bytes, path);
  table.finish();
  return table.expand();
}

std::vector<TensorInfo> read_safetensors_index(
    const std::filesystem::path& path) {
  TensorTable table;
  table.add_file(DirectFile(path));
  table.finish();
  return table.expand();
}

} // namespace mlx_flash
