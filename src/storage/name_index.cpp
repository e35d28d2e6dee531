#include "storage/name_index.h"

#include <xxhash.h>

namespace mlx_flash {

uint64_t NameIndex::hash_of(std::string_view name) {
  return XXH3_64bits(name.data(), name.size());
}

} // namespace mlx_flash
