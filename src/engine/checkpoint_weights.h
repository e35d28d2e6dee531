// Loads dense weights of a checkpoint into memory that MLX allocated, around
// the page cache. Reads are queued as the model asks and waited for once, by
// finish(): the disk sees them all.
//
// Thread rule: the engine thread.
#pragma once

#include <functional>
#include <vector>

#include "models/weight_source.h"
#include "ops/experts.h"
#include "residency/memory_budget.h"
#include "storage/checkpoint.h"
#include "storage/checksums.h"
#include "storage/expert_layout.h"
#include "storage/reader.h"

namespace mlx_flash {

class CheckpointWeights : public WeightSource {
 public:
  // All must outlive this. `checksums` may be null.
  CheckpointWeights(
      const Checkpoint& checkpoint,
      Reader& reader,
      const ChecksumTable* checksums)
      : checkpoint_(checkpoint), reader_(reader), checksums_(checksums) {}
  // Waits for reads in flight.
  ~CheckpointWeights() override;

  ops::Linear linear(const std::string& module, int64_t out, int64_t in)
      override;
  ops::mx::array vector(const std::string& name, int64_t n) override;

  // All experts of a layer, one record after another.
  ops::ExpertBank experts(const ExpertLayout& layout, int layer);

  // Waits until everything asked for has arrived. Throws Error(io).
  void finish();

 private:
  struct Read {
    std::string what; // the tensor, for messages
    ReadRequest request;
    ops::DeviceBuffer memory; // kept until the read is done
    std::function<void()> arrived;
  };

  void queue(
      std::string what,
      const ops::DeviceBuffer& memory,
      size_t at,
      uint32_t file,
      uint64_t offset,
      uint64_t bytes,
      std::function<void()> arrived = {});
  void flush();
  void check(const ReadCompletion& completion);

  const Checkpoint& checkpoint_;
  Reader& reader_;
  const ChecksumTable* checksums_;
  std::vector<Read> reads_;
  size_t submitted_ = 0;
};

// How a projection of `layout` is read by the kernels.
ops::MatrixPlace matrix_place(const ProjectionLayout& projection);
ops::ExpertRecord expert_record(const LayerExperts& layer);

} // namespace mlx_flash
