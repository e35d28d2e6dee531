// Rounding, and arithmetic that refuses to wrap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace mlx_flash {

// `alignment` is a power of two.
constexpr uint64_t round_down(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}
constexpr uint64_t round_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr uint64_t div_up(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor != 0);
}

// The blocks of `alignment` bytes, by their addresses, that lie in `memory` as
// a whole.
inline std::span<std::byte> whole_blocks(
    std::span<std::byte> memory,
    uint64_t alignment) {
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  const uint64_t first = round_up(begin, alignment);
  const uint64_t last = round_down(begin + memory.size(), alignment);
  return first < last ? memory.subspan(first - begin, last - first)
                      : std::span<std::byte>();
}

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_add_overflow(a, b, &result)) {
    return std::nullopt;
  }
  return result;
}
inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_mul_overflow(a, b, &result)) {
    return std::nullopt;
  }
  return result;
}

} // namespace mlx_flash
