// Loads dense weights of a checkpoint into memory that MLX allocated, around
// the page cache. Reads are queued as the model asks and waited for once, by
// finish(): the disk sees them all.
//
// Thread rule: the engine thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/planner.h"
#include "models/weight_source.h"
#include "ops/experts.h"
#include "platform/page_populator.h"
#include "residency/memory_budget.h"
#include "storage/checkpoint.h"
#include "storage/checksums.h"
#include "storage/expert_layout.h"
#include "storage/reader.h"

namespace mlx_flash {

class CheckpointWeights : public WeightSource {
 public:
  // All must outlive this. `checksums` may be null. `arena_bytes` is how much
  // of the dense weights is allocated at once.
  CheckpointWeights(
      const Checkpoint& checkpoint,
      const ExpertLayout& layout,
      Reader& reader,
      const ChecksumTable* checksums,
      MemoryBudget& budget,
      uint64_t arena_bytes = kDenseArenaBytes);
  // Waits for reads in flight.
  ~CheckpointWeights() override;

  ops::Linear linear(const std::string& module, int64_t out, int64_t in)
      override;
  ops::mx::array vector(const std::string& name, int64_t n) override;

  // All experts of a layer, one record after another.
  ops::ExpertBank experts(int layer);

  // Throws Error(unsupported) if the checkpoint has dense tensors that nobody
  // asked for: a model that is computed without them is another model.
  void require_all_taken() const;

  // Waits until everything asked for has arrived. Throws Error(io).
  void finish();

  // What the memory was charged with, for as long as it is used.
  std::vector<MemoryBudget::Charge> take_charges() {
    return std::move(charges_);
  }

 private:
  struct Read {
    std::string what; // the tensor, for messages
    ReadRequest request;
    ops::DeviceBuffer memory; // kept until the read is done
    std::function<void()> arrived;
  };

  const TensorInfo& take(const std::string& name);
  ops::Linear quantised_linear(
      const std::string& module,
      const Quantization& quantization,
      int64_t out,
      int64_t in);
  // Throw Error(out_of_budget).
  ops::DeviceBuffer allocate_dense(uint64_t bytes);
  ops::DeviceBuffer
  allocate(Account account, uint64_t bytes, uint64_t alignment);
  void queue(
      std::string what,
      const ops::DeviceBuffer& memory,
      size_t at,
      uint32_t file,
      uint64_t offset,
      uint64_t bytes,
      std::function<void()> arrived = {},
      uint64_t room = 1);
  void flush();
  void check(const ReadCompletion& completion);

  const Checkpoint& checkpoint_;
  const ExpertLayout& layout_;
  Reader& reader_;
  const ChecksumTable* checksums_;
  MemoryBudget& budget_;
  std::vector<MemoryBudget::Charge> charges_;
  // Dense weights side by side, so that large pages hold them all: at the edges
  // of an allocation there are none.
  std::optional<ops::DeviceBuffer> arena_;
  uint64_t arena_used_ = 0;
  const uint64_t arena_bytes_;
  uint64_t dense_left_; // bytes that are still to be allocated
  std::unordered_set<std::string> taken_;
  std::vector<Read> reads_;
  size_t submitted_ = 0;
  PagePopulator populator_{populating_threads()}; // ends before its memory
};

// How a projection of `layout` is read by the kernels.
ops::MatrixPlace matrix_place(const ProjectionLayout& projection);
ops::ExpertRecord expert_record(const LayerExperts& layer);

} // namespace mlx_flash
