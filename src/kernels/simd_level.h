// Which instructions the kernels use here: the best of Highway's targets that
// both this build and this processor have.
//
// Thread rule: free functions without state.
#pragma once

namespace mlx_flash::kernels {

// Highway's name for it: "AVX2", "AVX3" (AVX-512), "AVX3_DL" (with VNNI),
// "NEON", ... It is what the kernels' own dispatch chooses.
const char* simd_level();

// Of its vectors, at most 512.
int simd_bits();

} // namespace mlx_flash::kernels
