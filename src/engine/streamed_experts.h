// Experts on disk, a bank of slots in memory: the ExpertSource that streams.
//
// All misses of a layer are submitted at once; experts that are present are
// computed while the others arrive; each later one is computed when it is
// there. With more distinct experts than slots, computed ones make room for
// the next (waves), so any number of slots from experts_per_token up serves
// any prompt. Results land in rows of their own and are added up in router
// order: the same bits as ResidentExperts.
//
// Thread rule: constructed, begin_step() and end_step() on the engine thread;
// on the CPU the layers run on MLX's stream worker while the engine thread
// waits for them. Never both at once, so nothing here locks.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/expert_source.h"
#include "ops/cpu_ops.h"
#include "ops/mlx_ops.h"
#include "residency/expert_fetcher.h"
#include "residency/slot_bank.h"
#include "storage/expert_layout.h"

namespace mlx_flash {

class StreamedExperts : public ExpertSource {
 public:
  // `memory` is what `bank` manages. All must outlive this.
  StreamedExperts(
      SlotBank& bank,
      ExpertFetcher& fetcher,
      const ExpertLayout& layout,
      const ops::ExpertBank& memory);
  ~StreamedExperts() override = default;

  void begin_step(int rows) override;
  void end_step() override;

 protected:
  // A lookup of one layer's experts that came with `rows` rows each.
  struct Wanted {
    uint32_t group = 0; // the caller's number for it
    ExpertKey key;
    uint32_t rows = 0;
  };

  // Calls compute(group, slot) for every wanted expert, in the order in which
  // they are at hand. False when one could not be read; end_step() says why.
  // What `compute` throws is passed on, with nothing left in flight.
  template <typename Compute>
  bool visit(const std::vector<Wanted>& wanted, const Compute& compute);
  // The first counts.
  void record_failure(ErrorCode code, const std::string& message);

  const ExpertLayout& layout_;
  const ops::ExpertBank& memory_;

  const ops::ExpertRecord& record(int layer) const {
    return records_.at(layer);
  }
  bool failed() const {
    return error_.has_value();
  }

 private:
  struct Ready {
    uint32_t group;
    SlotBank::Lease lease;
  };

  template <typename Compute>
  bool visit_all(const std::vector<Wanted>& wanted, const Compute& compute);
  void start_missing();

  SlotBank& bank_;
  ExpertFetcher& fetcher_;
  std::map<int, ops::ExpertRecord> records_;
  std::optional<Error> error_; // the step's first
  // Of the layer in progress; kept for their memory.
  std::vector<Ready> ready_;
  std::vector<Wanted> missing_;
  size_t started_ = 0; // of missing_
};

// On the CPU back-end: a layer is one primitive of the lazy graph.
class CpuStreamedExperts : public StreamedExperts {
 public:
  CpuStreamedExperts(
      ops::CpuOps& ops,
      SlotBank& bank,
      ExpertFetcher& fetcher,
      const ExpertLayout& layout,
      const ops::ExpertBank& memory)
      : StreamedExperts(bank, fetcher, layout, memory), ops_(ops) {}

  ops::mx::array forward(
      int layer,
      const ops::mx::array& x,
      const ops::Routing& routing) override;

 private:
  void
  run(int layer, const std::vector<ops::mx::array>& in, ops::mx::array& out);
  void run_layer(
      int layer,
      const std::vector<ops::mx::array>& in,
      ops::mx::array& out);

  ops::CpuOps& ops_;
  std::vector<Wanted> wanted_;
};

// On stock MLX operations: the router's ids are computed first, and each wave
// of experts is computed before its slots are given up.
class MlxStreamedExperts : public StreamedExperts {
 public:
  MlxStreamedExperts(
      ops::MlxOps& ops,
      SlotBank& bank,
      ExpertFetcher& fetcher,
      const ExpertLayout& layout,
      const ops::ExpertBank& memory)
      : StreamedExperts(bank, fetcher, layout, memory), ops_(ops) {}

  ops::mx::array forward(
      int layer,
      const ops::mx::array& x,
      const ops::Routing& routing) override;

 private:
  ops::MlxOps& ops_;
};

} // namespace mlx_flash
