// Where each expert's bytes are on disk, and where they go in a slot.
//
// An expert of a SwiGLU layer has three projections: gate and up [inner,
// hidden], down [hidden, inner]. Quantised ones have scales beside the weight,
// and affine ones biases too, so an expert's record has 3 to 9 sections. Two
// forms are found, both from the stock files:
//   stacked     model.layers.L.mlp.switch_mlp.gate_proj.weight  [E, out, in]
//   per expert  model.layers.L.mlp.experts.E.gate_proj.weight   [out, in]
//
// The names that are recognised are a table in expert_names.cpp; another
// family's names are one line there.
//
// In a slot the sections lie one after another in the order of sections(), each
// in blocks of its own: of 4096 bytes where the section is at least 64 KiB, of
// 512 where it is at least 8 KiB, else of 64, a cache line. In its first block
// a section begins where it begins in the file's block of that size, so that
// whole blocks can be read from the device straight into the slot. Where that
// differs between the experts of a layer, as where sections are no multiple of
// the block, or is no multiple of 8, sections begin with their block. Slot
// offsets are the same for every expert of a layer.
//
// Thread rule: immutable after construction.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/checkpoint.h"
#include "storage/expert_key.h"

namespace mlx_flash {

enum class Projection : uint8_t { gate, up, down };
inline constexpr int kProjections = 3;

// One contiguous run of an expert's record.
struct Section {
  uint32_t file = 0;
  uint64_t file_offset = 0;
  uint64_t bytes = 0;
  uint64_t slot_offset = 0;
  // Of the blocks in the slot that hold nothing else.
  uint64_t block_bytes = 64;
};

// How a projection's matrix lies in a slot; the same for every expert of a
// layer.
struct ProjectionLayout {
  int64_t out = 0;
  int64_t in = 0; // values, not packed words
  std::optional<Quantization> quantization;
  Dtype weight_dtype = Dtype::bf16; // u32 when quantised
  Dtype scale_dtype = Dtype::bf16; // of scales and biases; u8 when mxfp4
  uint64_t weight_offset = 0; // in the slot
  uint64_t scales_offset = 0; // when quantised
  uint64_t biases_offset = 0; // when affine
};

struct LayerExperts {
  uint16_t layer = 0;
  uint16_t experts = 0;
  std::array<ProjectionLayout, kProjections> projections;
  uint64_t record_bytes = 0; // of one expert on disk
  uint64_t slot_bytes = 0; // what a slot needs to hold one
};

class ExpertLayout {
 public:
  // Finds the experts of every layer. A checkpoint without any has no layers.
  // Throws Error(bad_model) when a layer's experts are incomplete or differ
  // in shape, dtype or quantisation, and Error(unsupported) for experts of a
  // form that is not known here.
  explicit ExpertLayout(const Checkpoint& checkpoint);

  // Layers that have experts, in order.
  std::span<const LayerExperts> layers() const {
    return layers_;
  }
  // Null when `layer` has no experts.
  const LayerExperts* layer(uint16_t layer) const;

  // All experts of all layers.
  uint64_t expert_count() const;
  // The size of a slot that can hold any expert; a multiple of every block.
  uint64_t slot_bytes() const;
  // All expert bytes on disk.
  uint64_t total_bytes() const;
  // The largest section.
  uint64_t largest_section_bytes() const;

  // The expert's sections: gate weight, scales, biases, then up, then down
  // (without what a projection does not have). `key` is an expert that exists.
  std::span<const Section> sections(ExpertKey key) const;

  // True for a tensor that belongs to an expert, and so is not part of the
  // dense weights.
  bool is_expert_tensor(const std::string& name) const;

 private:
  std::vector<LayerExperts> layers_;
  std::vector<int> layer_index_; // by layer number, -1 where dense
  std::vector<std::vector<Section>> sections_; // [layer_index][e * n + i]
};

} // namespace mlx_flash
