#include "engine/checkpoint_weights.h"

#include <algorithm>
#include <cstring>

#include "base/align.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/planner.h"
#include "platform/large_pages.h"

namespace mlx_flash {

namespace {

using kernels::ScaleType;
using kernels::WeightType;
namespace mx = ops::mx;

WeightType weight_type(Dtype dtype, const std::string& name) {
  switch (dtype) {
    case Dtype::f32:
      return WeightType::f32;
    case Dtype::f16:
      return WeightType::f16;
    case Dtype::bf16:
      return WeightType::bf16;
    default:
      fail(
          ErrorCode::unsupported,
          "[weights] {} is {}; weights must be F32, F16, BF16 or quantised by "
          "MLX",
          name,
          dtype_name(dtype));
  }
}

ScaleType scale_type(Dtype dtype, const std::string& name) {
  if (dtype == Dtype::u8) {
    return ScaleType::e8m0;
  }
  switch (weight_type(dtype, name)) {
    case WeightType::f32:
      return ScaleType::f32;
    case WeightType::f16:
      return ScaleType::f16;
    default:
      return ScaleType::bf16;
  }
}

// `scales`: the dtype of the tensor `name`.
void set_quantization(
    kernels::Matrix& m,
    const Quantization& quantization,
    Dtype scales,
    const std::string& name) {
  m.type = quantization.mode == QuantizationMode::mxfp4 ? WeightType::mxfp4
                                                        : WeightType::affine;
  m.bits = quantization.bits;
  m.group_size = quantization.group_size;
  m.scale_type = scale_type(scales, name);
}

[[noreturn]] void wrong_shape(
    const TensorInfo& tensor,
    const std::string& expected,
    const Checkpoint& checkpoint) {
  fail(
      ErrorCode::bad_model,
      "[weights] {} in {} has shape [{}], but config.json asks for {}",
      tensor.name,
      checkpoint.folder().string(),
      fmt::join(tensor.shape, ", "),
      expected);
}

void require_shape(
    const TensorInfo& tensor,
    int64_t rows,
    int64_t columns,
    const Checkpoint& checkpoint) {
  if (tensor.shape != std::vector<int64_t>{rows, columns}) {
    wrong_shape(tensor, fmt::format("[{}, {}]", rows, columns), checkpoint);
  }
}

void convert_to_f32(
    const std::byte* source,
    WeightType type,
    size_t n,
    float* out) {
  kernels::Matrix row;
  row.type = type;
  row.out = 1;
  row.in = static_cast<int64_t>(n);
  row.weight = source;
  kernels::dequantize_row(row, 0, out);
}

} // namespace

ops::MatrixPlace matrix_place(const ProjectionLayout& projection) {
  ops::MatrixPlace place;
  kernels::Matrix& m = place.matrix;
  m.out = projection.out;
  m.in = projection.in;
  place.weight_offset = projection.weight_offset;
  if (projection.quantization) {
    set_quantization(
        m,
        *projection.quantization,
        projection.scale_dtype,
        "an expert's scales");
    place.scales_offset = projection.scales_offset;
    place.biases_offset = projection.biases_offset;
  } else {
    m.type = weight_type(projection.weight_dtype, "an expert");
  }
  return place;
}

ops::ExpertRecord expert_record(const LayerExperts& layer) {
  return {
      matrix_place(layer.projections[0]),
      matrix_place(layer.projections[1]),
      matrix_place(layer.projections[2])};
}

CheckpointWeights::CheckpointWeights(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    Reader& reader,
    const ChecksumTable* checksums,
    MemoryBudget& budget,
    uint64_t arena_bytes)
    : checkpoint_(checkpoint),
      layout_(layout),
      reader_(reader),
      checksums_(checksums),
      budget_(budget),
      arena_bytes_(arena_bytes),
      dense_left_(dense_tensors_bytes(checkpoint, layout)) {}

const TensorInfo& CheckpointWeights::take(const std::string& name) {
  taken_.insert(name);
  return checkpoint_.get(name);
}

ops::DeviceBuffer CheckpointWeights::allocate_dense(uint64_t bytes) {
  charges_.push_back(budget_.charge(Account::dense_weights, bytes));
  if (!arena_ || bytes > arena_->span().size() - arena_used_) {
    const uint64_t size = std::max(bytes, std::min(dense_left_, arena_bytes_));
    arena_.emplace(size);
    prefer_large_pages(arena_->span());
    arena_used_ = 0;
  }
  ops::DeviceBuffer part = arena_->part(arena_used_, bytes);
  const uint64_t taken = round_up(bytes, 64);
  arena_used_ = std::min<uint64_t>(arena_used_ + taken, arena_->span().size());
  dense_left_ -= std::min(dense_left_, taken);
  populator_.populate(part.span());
  return part;
}

ops::DeviceBuffer CheckpointWeights::allocate(
    Account account,
    uint64_t bytes,
    uint64_t alignment) {
  charges_.push_back(budget_.charge(account, bytes));
  ops::DeviceBuffer buffer(bytes, alignment);
  prefer_large_pages(buffer.span());
  populator_.populate(buffer.span());
  return buffer;
}

CheckpointWeights::~CheckpointWeights() {
  std::vector<ReadCompletion> completions;
  while (reader_.wait(completions) > 0) {
    completions.clear();
  }
}

void CheckpointWeights::queue(
    std::string what,
    const ops::DeviceBuffer& memory,
    size_t at,
    uint32_t file,
    uint64_t offset,
    uint64_t bytes,
    std::function<void()> arrived,
    uint64_t room) {
  const ReadRequest request{
      file, offset, memory.span().subspan(at, bytes), reads_.size(), room};
  reads_.push_back({std::move(what), request, memory, std::move(arrived)});
}

void CheckpointWeights::flush() {
  std::vector<ReadRequest> requests;
  for (; submitted_ < reads_.size(); ++submitted_) {
    requests.push_back(reads_[submitted_].request);
  }
  reader_.submit(requests);
}

ops::Linear
CheckpointWeights::linear(const std::string& module, int64_t out, int64_t in) {
  const TensorInfo& weight = take(module + ".weight");
  if (const auto quantization = checkpoint_.quantization(module)) {
    return quantised_linear(module, *quantization, out, in);
  }
  ops::MatrixPlace place;
  place.matrix.out = out;
  place.matrix.in = in;
  place.matrix.type = weight_type(weight.dtype, weight.name);
  require_shape(weight, out, in, checkpoint_);
  const auto memory = allocate_dense(weight.bytes);
  queue(weight.name, memory, 0, weight.file, weight.offset, weight.bytes);
  flush();
  return {memory, place};
}

ops::Linear CheckpointWeights::quantised_linear(
    const std::string& module,
    const Quantization& quantization,
    int64_t out,
    int64_t in) {
  const int group = quantization.group_size;
  if (in % group != 0) {
    fail(
        ErrorCode::bad_model,
        "[weights] {} in {} has groups of {} values, which do not divide the {} "
        "that config.json asks for",
        module,
        checkpoint_.folder().string(),
        group,
        in);
  }
  std::vector<const TensorInfo*> parts;
  const auto add = [&](const char* part, int64_t columns) -> const TensorInfo& {
    parts.push_back(&take(module + part));
    require_shape(*parts.back(), out, columns, checkpoint_);
    return *parts.back();
  };
  add(".weight", in * quantization.bits / 32);
  const TensorInfo& scales = add(".scales", in / group);
  if (quantization.has_biases()) {
    add(".biases", in / group);
  }
  ops::MatrixPlace place;
  place.matrix.out = out;
  place.matrix.in = in;
  set_quantization(place.matrix, quantization, scales.dtype, scales.name);
  size_t* offsets[] = {
      &place.weight_offset, &place.scales_offset, &place.biases_offset};
  size_t end = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    *offsets[i] = round_up(end, 64);
    end = *offsets[i] + parts[i]->bytes;
  }
  const auto memory = allocate_dense(end);
  for (size_t i = 0; i < parts.size(); ++i) {
    const TensorInfo& part = *parts[i];
    queue(part.name, memory, *offsets[i], part.file, part.offset, part.bytes);
  }
  flush();
  return {memory, place};
}

mx::array CheckpointWeights::vector(const std::string& name, int64_t n) {
  const TensorInfo& tensor = take(name);
  const WeightType type = weight_type(tensor.dtype, name);
  if (tensor.shape != std::vector<int64_t>{n}) {
    wrong_shape(tensor, fmt::format("[{}]", n), checkpoint_);
  }
  const ops::DeviceBuffer raw(tensor.bytes); // until it is converted
  const auto values = allocate_dense(static_cast<size_t>(n) * 4);
  queue(
      name,
      raw,
      0,
      tensor.file,
      tensor.offset,
      tensor.bytes,
      [raw, values, type, n] {
        convert_to_f32(
            raw.data(),
            type,
            static_cast<size_t>(n),
            reinterpret_cast<float*>(values.data()));
      });
  flush();
  return values.array(0, {static_cast<int>(n)}, mx::float32);
}

ops::ExpertBank CheckpointWeights::experts(int layer) {
  const LayerExperts& l = *layout_.layer(static_cast<uint16_t>(layer));
  const size_t pitch = l.slot_bytes;
  const auto memory = allocate(Account::expert_slots, pitch * l.experts, 4096);
  for (uint16_t e = 0; e < l.experts; ++e) {
    for (const Section& section : layout_.sections({l.layer, e})) {
      queue(
          fmt::format("layer {} expert {}", layer, e),
          memory,
          e * pitch + section.slot_offset,
          section.file,
          section.file_offset,
          section.bytes,
          {},
          section.block_bytes);
    }
  }
  flush();
  return {memory, pitch, l.experts};
}

void CheckpointWeights::check(const ReadCompletion& completion) {
  Read& read = reads_[completion.tag];
  std::optional<std::string> problem = completion.error;
  if (!problem && checksums_) {
    problem = checksums_->check(
        read.request.file, read.request.offset, read.request.dest);
  }
  if (problem) {
    fail(ErrorCode::io, "[weights] {}: {}", read.what, *problem);
  }
  if (read.arrived) {
    read.arrived();
  }
}

void CheckpointWeights::require_all_taken() const {
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    // A head that nobody asked for is a copy of tied embeddings, and RoPE's
    // frequencies follow from its base.
    const bool tied_head = tensor.name.starts_with("lm_head.") &&
        !taken_.contains("lm_head.weight");
    if (taken_.contains(tensor.name) || layout_.is_expert_tensor(tensor.name) ||
        tied_head || tensor.name.ends_with(".rotary_emb.inv_freq")) {
      continue;
    }
    fail(
        ErrorCode::unsupported,
        "[weights] {} has a tensor that this build would leave out: {}",
        checkpoint_.folder().string(),
        tensor.name);
  }
}

void CheckpointWeights::finish() {
  std::vector<ReadCompletion> completions;
  while (reader_.wait(completions) > 0) {
    for (const ReadCompletion& completion : completions) {
      check(completion);
    }
    completions.clear();
  }
  reads_.clear();
  submitted_ = 0;
}

} // namespace mlx_flash
