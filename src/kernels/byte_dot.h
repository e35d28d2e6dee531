// Whether kernels use the processor's instruction for dot products of bytes
// (VNNI also has one for pairs of 16 bits), which not every processor of a SIMD
// target has: AVX-512 VNNI and AVX-VNNI, NEON DotProd. Either way gives the
// same bits.
//
// Thread rule: allow_byte_dot() only while no kernel runs.
#pragma once

namespace mlx_flash::kernels {

// In vectors of so many bits: a target's, or simd_bits().
bool uses_byte_dot(int vector_bits);

// For tests: false makes uses_byte_dot() false; true lets the processor decide.
void allow_byte_dot(bool allow);

} // namespace mlx_flash::kernels
