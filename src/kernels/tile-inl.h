// What the products of every precision share: fetching a tile ahead of its
// use, its scales and biases, and how many sums the registers hold.

#if defined(MLX_FLASH_KERNELS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLX_FLASH_KERNELS_TILE_INL_H_
#undef MLX_FLASH_KERNELS_TILE_INL_H_
#else
#define MLX_FLASH_KERNELS_TILE_INL_H_
#endif

#include "kernels/product.h"
#include "kernels/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlx_flash::kernels {
namespace HWY_NAMESPACE {

// Prefetches what of the tile's rows comes kAhead bytes after the `bytes` bytes
// at `offset`. While a line of each row is used, a line of each row is fetched,
// evenly: a burst of them would wait for the memory.
HWY_INLINE void
prefetch_ahead(const TileRows& rows, int64_t offset, int64_t bytes) {
  constexpr int64_t kAhead = 256;
  constexpr int64_t kLine = 64;
  const int64_t in_line = offset & (kLine - 1);
  const int64_t first = in_line * kTile / kLine;
  const int64_t line = offset - in_line + kAhead;
  HWY_UNROLL(8)
  for (int64_t i = 0; i < bytes * kTile / kLine; ++i) {
    rows.prefetch(first + i, line);
  }
}

// Scales and biases of a tile, from unpack_scales().
struct TileScales {
  const float* scales = nullptr;
  const float* biases = nullptr; // affine
  int64_t groups = 0; // of a row
  int64_t group_blocks = 1; // blocks in a group: 1, 2 or 4

  HWY_INLINE int64_t group(int64_t block) const {
    return block >> (group_blocks >> 1); // no division in the inner loops
  }
  HWY_INLINE bool ends_group(int64_t block) const {
    return ((block + 1) & (group_blocks - 1)) == 0;
  }
};

// The rows of the task's tile in the array `base` of scales or biases.
HWY_INLINE TileRows scale_rows(const ProductTask& task, const std::byte* base) {
  const Matrix& w = *task.w;
  const int64_t bytes = groups_of(w) * scale_bytes(w.scale_type);
  return {base, bytes, task.first, w.out};
}

// Unpacks the scales and biases of the task's tile behind the panel.
HWY_INLINE TileScales tile_scales(const ProductTask& task) {
  const Matrix& w = *task.w;
  const int64_t groups = groups_of(w);
  float* scales = task.memory + kPanelColumns * kTile;
  float* biases = nullptr;
  unpack_scales(w.scale_type, scale_rows(task, w.scales), groups, scales);
  if (w.type == WeightType::affine) {
    biases = scales + unpacked_groups(w) * kTile;
    unpack_scales(w.scale_type, scale_rows(task, w.biases), groups, biases);
  }
  return {scales, biases, groups, w.group_size / kBlock};
}

#if HWY_ARCH_ARM_A64 || HWY_MAX_BYTES >= 64
inline constexpr int kRegisters = 32;
#else
inline constexpr int kRegisters = 16;
#endif

// Vectors of a tile whose sums fit the registers beside those of kRows rows.
template <int kRows>
constexpr int columns_at_once() {
  constexpr int kAll = static_cast<int>(kVectors);
  return kRows * kAll + kAll <= kRegisters ? kAll : 2;
}

} // namespace HWY_NAMESPACE
} // namespace mlx_flash::kernels
HWY_AFTER_NAMESPACE();

#endif
