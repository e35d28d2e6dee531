#include "storage/expert_layout.h"

#include <algorithm>
#include <tuple>

#include "base/align.h"
#include "base/check.h"
#include "base/error.h"
#include "storage/expert_names.h"
#include "storage/json_scanner.h"

namespace mlx_flash {

namespace {

// Five times 100 layers of 512, and no more than a hostile file of a few
// bytes for each may ask memory for.
constexpr uint64_t kMaxExperts = 262'144;

// A tensor of experts, by what its name says.
struct Found {
  ExpertName name;
  const TensorInfo* tensor;

  auto order() const {
    return std::tuple(
        name.layer,
        name.expert.has_value(),
        name.expert.value_or(0),
        name.projection,
        name.part);
  }
};

std::vector<Found> find_tensors(const Checkpoint& checkpoint) {
  std::vector<Found> found;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    Found candidate{{}, &tensor};
    switch (parse_expert_name(tensor.name, candidate.name)) {
      case NameKind::dense:
        break;
      case NameKind::expert:
        found.push_back(candidate);
        break;
      case NameKind::unknown:
        fail(
            ErrorCode::unsupported,
            "[experts] {}: tensor {} lies among the experts, but its form is "
            "not known; take an MLX conversion of the model",
            checkpoint.folder().string(),
            in_quotes(tensor.name));
    }
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return a.order() < b.order();
  });
  return found;
}

// The tensors of one projection, of one expert or of all of a layer.
struct Matrix {
  const TensorInfo* parts[kExpertParts] = {}; // weight, scales, biases
};
using Matrices = std::array<Matrix, kProjections>;

struct BuiltLayer {
  LayerExperts layer;
  std::vector<Section> sections; // [e * n + i]
};

// Of devices: what direct reads are aligned to.
constexpr uint64_t kSmallBlock = 512;
constexpr uint64_t kLargeBlock = 4096;

// Builds one layer from its tensors, which are sorted.
class LayerBuilder {
 public:
  LayerBuilder(const Checkpoint& checkpoint, std::span<const Found> found)
      : checkpoint_(checkpoint), found_(found) {
    layer_.layer = found.front().name.layer;
  }

  BuiltLayer build() {
    const bool stacked = !found_.front().name.expert;
    if (stacked == found_.back().name.expert.has_value()) {
      refuse("has experts in stacked form and one by one");
    }
    if (stacked) {
      build_stacked();
    } else {
      build_one_by_one();
    }
    place();
    return {layer_, std::move(sections_)};
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(
        ErrorCode::bad_model,
        "[experts] {}: layer {} {}; download the model again",
        checkpoint_.folder().string(),
        layer_.layer,
        what);
  }

  void build_stacked() {
    const Matrices all = gather(found_);
    const auto& shape = all[0].parts[0]->shape;
    set_experts(shape.empty() ? 0 : shape[0]);
    for (int p = 0; p < kProjections; ++p) {
      layer_.projections[p] = describe(all[p], 3);
    }
    sections_.reserve(layer_.experts * section_count());
    for (uint16_t e = 0; e < layer_.experts; ++e) {
      append_sections(all, e);
    }
  }

  void build_one_by_one() {
    size_t at = 0;
    int64_t experts = 0;
    Matrices first;
    while (at < found_.size()) {
      const size_t begin = at;
      while (at < found_.size() &&
             found_[at].name.expert == found_[begin].name.expert) {
        ++at;
      }
      if (found_[begin].name.expert != experts) {
        refuse(fmt::format("lacks expert {}", experts));
      }
      const Matrices one = gather(found_.subspan(begin, at - begin));
      if (experts == 0) {
        first = one;
        for (int p = 0; p < kProjections; ++p) {
          layer_.projections[p] = describe(one[p], 2);
        }
      }
      check_alike(first, one);
      append_sections(one, 0);
      ++experts;
    }
    set_experts(experts);
  }

  void set_experts(int64_t experts) {
    if (experts < 1 || experts > UINT16_MAX) {
      refuse(fmt::format("has {} experts", experts));
    }
    layer_.experts = static_cast<uint16_t>(experts);
  }

  Matrices gather(std::span<const Found> found) const {
    Matrices matrices;
    for (const Found& f : found) {
      matrices[f.name.projection].parts[static_cast<int>(f.name.part)] =
          f.tensor;
    }
    for (const Matrix& matrix : matrices) {
      if (!matrix.parts[0]) {
        refuse(fmt::format(
            "lacks one of the weights beside {}",
            in_quotes(found.front().tensor->name)));
      }
      if (matrix.parts[2] && !matrix.parts[1]) {
        refuse(fmt::format(
            "has {} without scales", in_quotes(matrix.parts[2]->name)));
      }
    }
    return matrices;
  }

  std::optional<Quantization> quantization(const Matrix& matrix) const {
    std::string module = matrix.parts[0]->name;
    module.resize(module.rfind('.'));
    return checkpoint_.quantization(module);
  }

  // `rank` is 3 for stacked experts.
  ProjectionLayout describe(const Matrix& matrix, size_t rank) const {
    const TensorInfo& weight = *matrix.parts[0];
    const auto& shape = weight.shape;
    if (shape.size() != rank || (rank == 3 && shape[0] != layer_.experts) ||
        std::find(shape.begin(), shape.end(), 0) != shape.end()) {
      refuse(fmt::format(
          "has {} in another shape than {}",
          in_quotes(weight.name),
          rank == 3 ? fmt::format("[{}, out, in]", layer_.experts)
                    : "[out, in]"));
    }
    ProjectionLayout layout;
    layout.out = shape[rank - 2];
    layout.in = shape[rank - 1];
    layout.weight_dtype = weight.dtype;
    layout.quantization = quantization(matrix);
    if (layout.quantization) {
      layout.in =
          matrix.parts[1]->shape[rank - 1] * layout.quantization->group_size;
      layout.scale_dtype = matrix.parts[1]->dtype;
    } else if (
        weight.dtype != Dtype::bf16 && weight.dtype != Dtype::f16 &&
        weight.dtype != Dtype::f32) {
      fail(
          ErrorCode::unsupported,
          "[experts] {}: {} has the dtype {} and no scales; take an MLX "
          "conversion of the model",
          checkpoint_.folder().string(),
          in_quotes(weight.name),
          dtype_name(weight.dtype));
    }
    return layout;
  }

  // That each expert is quantised as the first one is and has its shapes.
  void check_alike(const Matrices& first, const Matrices& one) const {
    for (int p = 0; p < kProjections; ++p) {
      for (int i = 0; i < kExpertParts; ++i) {
        const TensorInfo* a = first[p].parts[i];
        const TensorInfo* b = one[p].parts[i];
        if (!a != !b || (a && (a->shape != b->shape || a->dtype != b->dtype))) {
          refuse(fmt::format(
              "has {}, which is unlike that of expert 0",
              in_quotes((b ? b : a)->name)));
        }
      }
      if (quantization(one[p]) != layer_.projections[p].quantization) {
        refuse(fmt::format(
            "has {}, which is quantised unlike that of expert 0",
            in_quotes(one[p].parts[0]->name)));
      }
    }
  }

  size_t section_count() const {
    size_t count = 0;
    for (const auto& projection : layer_.projections) {
      const auto& quantization = projection.quantization;
      count += !quantization ? 1 : quantization->has_biases() ? 3 : 2;
    }
    return count;
  }

  // `row` is the expert's number in stacked tensors.
  void append_sections(const Matrices& matrices, uint64_t row) {
    const bool stacked = matrices[0].parts[0]->shape.size() == 3;
    for (const Matrix& matrix : matrices) {
      for (const TensorInfo* tensor : matrix.parts) {
        if (tensor) {
          const uint64_t bytes =
              stacked ? tensor->bytes / layer_.experts : tensor->bytes;
          sections_.push_back(
              {tensor->file, tensor->offset + row * bytes, bytes});
        }
      }
    }
  }

  // Decides where the sections go in a slot.
  void place() {
    check_dimensions();
    const size_t count = section_count();
    uint64_t end = 0;
    uint64_t largest_block = 0;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t bytes = sections_[i].bytes;
      const uint64_t block = bytes >= (64 << 10) ? kLargeBlock
          : bytes >= (8 << 10)                   ? kSmallBlock
                                                 : 64;
      const uint64_t at = round_up(end, block) + place_in_block(i, block);
      for (size_t e = 0; e < layer_.experts; ++e) {
        sections_[e * count + i].slot_offset = at;
        sections_[e * count + i].block_bytes = block;
      }
      end = round_up(at + bytes, block);
      largest_block = std::max(largest_block, block);
      layer_.record_bytes += bytes;
    }
    layer_.slot_bytes = round_up(end, largest_block);
    const Section* section = sections_.data();
    for (auto& projection : layer_.projections) {
      projection.weight_offset = section++->slot_offset;
      if (projection.quantization) {
        projection.scales_offset = section++->slot_offset;
      }
      if (projection.quantization && projection.quantization->has_biases()) {
        projection.biases_offset = section++->slot_offset;
      }
    }
  }

  // Where section `i` of each expert begins in its block of the file, if all do
  // alike and values of 8 bytes stay aligned; else 0.
  uint64_t place_in_block(size_t i, uint64_t block) const {
    if (block < kSmallBlock) {
      return 0; // no device has such blocks
    }
    const size_t count = section_count();
    const uint64_t place = sections_[i].file_offset % block;
    for (size_t e = 0; e < layer_.experts; ++e) {
      if (sections_[e * count + i].file_offset % block != place) {
        return 0;
      }
    }
    return place % 8 == 0 ? place : 0;
  }

  void check_dimensions() const {
    const auto& [gate, up, down] = layer_.projections;
    if (gate.out != up.out || gate.in != up.in || down.out != gate.in ||
        down.in != gate.out) {
      refuse(fmt::format(
          "has a gate of [{}, {}], an up of [{}, {}] and a down "
          "projection of [{}, {}], which do not fit",
          gate.out,
          gate.in,
          up.out,
          up.in,
          down.out,
          down.in));
    }
  }

  const Checkpoint& checkpoint_;
  std::span<const Found> found_;
  LayerExperts layer_;
  std::vector<Section> sections_; // slot offsets come from place()
};

} // namespace

ExpertLayout::ExpertLayout(const Checkpoint& checkpoint) {
  const std::vector<Found> found = find_tensors(checkpoint);
  size_t at = 0;
  uint64_t experts = 0;
  while (at < found.size()) {
    const size_t begin = at;
    while (at < found.size() &&
           found[at].name.layer == found[begin].name.layer) {
      ++at;
    }
    BuiltLayer built =
        LayerBuilder(checkpoint, std::span(found).subspan(begin, at - begin))
            .build();
    experts += built.layer.experts;
    if (experts > kMaxExperts) {
      fail(
          ErrorCode::bad_model,
          "[experts] {}: more than {} experts; no model has so many",
          checkpoint.folder().string(),
          kMaxExperts);
    }
    layer_index_.resize(built.layer.layer + 1u, -1);
    layer_index_.back() = static_cast<int>(layers_.size());
    layers_.push_back(built.layer);
    sections_.push_back(std::move(built.sections));
  }
}

const LayerExperts* ExpertLayout::layer(uint16_t layer) const {
  if (layer >= layer_index_.size() || layer_index_[layer] < 0) {
    return nullptr;
  }
  return &layers_[static_cast<size_t>(layer_index_[layer])];
}

uint64_t ExpertLayout::expert_count() const {
  uint64_t count = 0;
  for (const auto& layer : layers_) {
    count += layer.experts;
  }
  return count;
}

uint64_t ExpertLayout::slot_bytes() const {
  uint64_t most = 0;
  uint64_t block = 64;
  for (size_t i = 0; i < layers_.size(); ++i) {
    most = std::max(most, layers_[i].slot_bytes);
    for (const Section& section : sections_[i]) {
      block = std::max(block, section.block_bytes);
    }
  }
  return round_up(most, block);
}

uint64_t ExpertLayout::total_bytes() const {
  uint64_t bytes = 0;
  for (const auto& layer : layers_) {
    bytes += layer.record_bytes * layer.experts;
  }
  return bytes;
}

uint64_t ExpertLayout::largest_section_bytes() const {
  uint64_t most = 0;
  for (const auto& layer : layers_) {
    for (const Section& section : sections({layer.layer, 0})) {
      most = std::max(most, section.bytes);
    }
  }
  return most;
}

std::span<const Section> ExpertLayout::sections(ExpertKey key) const {
  const LayerExperts* experts = layer(key.layer);
  MLX_FLASH_CHECK(experts && key.expert < experts->experts);
  const auto& all = sections_[static_cast<size_t>(layer_index_[key.layer])];
  const size_t count = all.size() / experts->experts;
  return std::span(all).subspan(key.expert * count, count);
}

bool ExpertLayout::is_expert_tensor(const std::string& name) const {
  ExpertName parsed;
  return parse_expert_name(name, parsed) == NameKind::expert &&
      layer(parsed.layer) != nullptr;
}

} // namespace mlx_flash
