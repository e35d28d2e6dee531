// XXH3's hashes of 128 bits, and its state for bytes that come in pieces.
//
// Thread rule: free functions without state; a state is one thread's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct XXH3_state_s; // xxhash.h

namespace mlx_flash {

using Hash128 = std::array<uint64_t, 2>; // the low half first

Hash128 hash_of(std::span<const std::byte> bytes);

// 32 digits, the high half first.
std::string hex(const Hash128& hash);

struct FreeHashState {
  void operator()(XXH3_state_s* state) const;
};
using HashState = std::unique_ptr<XXH3_state_s, FreeHashState>;

// To be reset before it is used.
HashState make_hash_state();

} // namespace mlx_flash
