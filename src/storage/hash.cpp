#include "storage/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace mlx_flash {

Hash128 hash_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::string hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash[1], hash[0]);
}

void FreeHashState::operator()(XXH3_state_s* state) const {
  XXH3_freeState(state);
}

HashState make_hash_state() {
  return HashState(XXH3_createState());
}

} // namespace mlx_flash
