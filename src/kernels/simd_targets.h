// Which of Highway's targets the kernels are compiled for; to be included
// before any Highway header, in every file that uses one.
//
// Left out: SSSE3, because SSE4 covers nearly every processor that has it, and
// SVE, because the kernels keep vectors in arrays, which types without a
// compile-time size cannot be. Such processors run the NEON code.
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
