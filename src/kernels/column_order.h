// The order in which integers of x are stored: that of the codes which one
// mask takes out of the bytes of a row of W.
//
// A byte of 4-bit weights holds two neighbours, so x is stored in two planes:
// for each 64 bytes of a row of W, the 64 columns in the low halves, then the
// 64 in the high halves. For other numbers of bits the order is that of x, one
// plane. Every whole chunk is there; what no column fills is zero.
#pragma once

#include <cstdint>

namespace mlx_flash::kernels {

// Bytes of a row of 4- or 8-bit weights that belong to one chunk of x.
inline constexpr int64_t kChunkBytes = 64;

inline int planes_of(int bits) {
  return bits == 4 ? 2 : 1;
}

// Bytes of a row of integers.
inline int64_t integers_stride(int bits, int64_t in) {
  const int64_t chunk = kChunkBytes * planes_of(bits);
  return (in + chunk - 1) / chunk * chunk;
}

// Where column `c`, an even number, is in a row of integers. With two planes,
// column c + 1 is kChunkBytes behind it and column c + 2 follows it.
inline int64_t column_offset(int planes, int64_t c) {
  if (planes == 1) {
    return c;
  }
  const int64_t chunk = kChunkBytes * planes;
  return c / chunk * chunk + c % chunk / planes;
}

} // namespace mlx_flash::kernels
