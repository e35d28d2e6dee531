// GCC's intrinsic that sets the shapes of AMX tiles, mended: bench/peers setup
// includes it before every C++ source of a rival.
//
// GCC 12's tells the optimiser that it reads 8 bytes of the 64. What llama.cpp
// writes to the others is then dropped as never read, all tiles are empty, and
// the first that is loaded is an illegal instruction. Whether the machine lets
// tiles be used at all, ggml asks the kernel itself.
#pragma once

// Sources that are compiled without tiles are left as they are.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) \
  __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))
#endif
