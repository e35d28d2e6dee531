// Experts on disk, a bank of slots in memory: the ExpertSource that streams.
//
// All misses of a layer are submitted at once; experts that are present are
// computed while the others arrive; each later one is computed when it is
// there. With more distinct experts than slots, computed ones make room for
// the next (waves), so any number of slots from experts_per_token up serves
// any prompt. Results land in rows of their own and are added up in router
// order: the same bits as ResidentExperts.
//
// Thread rule: the engine thread.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "models/expert_source.h"
#include "ops/cpu_ops.h"
#include "ops/mlx_ops.h"
#include "platform/page_populator.h"
#include "residency/expert_fetcher.h"
#include "residency/slot_bank.h"
#include "storage/expert_layout.h"

namespace mlx_flash {

class StreamedExperts : public ExpertSource {
 public:
  // `memory` is what `bank` manages; `populator` gives it its pages ahead of
  // their use. All must outlive this.
  StreamedExperts(
      SlotBank& bank,
      ExpertFetcher& fetcher,
      const ExpertLayout& layout,
      const ops::ExpertBank& memory,
      PagePopulator& populator);
  ~StreamedExperts() override = default;

  void begin_step(int tokens) override;

 protected:
  // A lookup of one layer's experts that came with `rows` rows each.
  struct Wanted {
    uint32_t group = 0; // the caller's number for it
    ExpertKey key;
    uint32_t rows = 0;
  };

  // An expert that is at hand.
  struct Ready {
    uint32_t group = 0;
    uint32_t rows = 0;
    SlotBank::Lease lease;
  };

  // Calls compute(span of Ready) until it has had every wanted expert once, in
  // any order: what is at hand goes before what is not. Throws Error(io) when
  // one could not be read, and what `compute` throws, with nothing left in
  // flight.
  template <typename Compute>
  void visit(const std::vector<Wanted>& wanted, const Compute& compute);

  const ExpertLayout& layout_;
  const ops::ExpertBank& memory_;

  const ops::ExpertRecord& record(int layer) const {
    return records_.at(layer);
  }

 private:
  template <typename Compute>
  void visit_all(const std::vector<Wanted>& wanted, const Compute& compute);
  template <typename Compute>
  void compute_ready(const Compute& compute);
  void start_missing();
  void populate_ahead();
  void take(Fetched fetched);

  SlotBank& bank_;
  ExpertFetcher& fetcher_;
  PagePopulator& populator_;
  size_t populated_ = 0; // bytes of the bank's memory
  std::map<int, ops::ExpertRecord> records_;
  // Of the layer in progress; kept for their memory.
  std::vector<Ready> ready_;
  std::vector<Wanted> missing_;
  size_t started_ = 0; // of missing_
};

// On the CPU back-end.
class CpuStreamedExperts : public StreamedExperts {
 public:
  CpuStreamedExperts(
      ops::CpuOps& ops,
      SlotBank& bank,
      ExpertFetcher& fetcher,
      const ExpertLayout& layout,
      const ops::ExpertBank& memory,
      PagePopulator& populator)
      : StreamedExperts(bank, fetcher, layout, memory, populator), ops_(ops) {}

  ops::mx::array forward(
      int layer,
      const ops::mx::array& x,
      const ops::Routing& routing) override;

 private:
  ops::CpuOps& ops_;
  std::vector<Wanted> wanted_;
  std::vector<ops::ExpertPass::Present> present_;
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
      const ops::ExpertBank& memory,
      PagePopulator& populator)
      : StreamedExperts(bank, fetcher, layout, memory, populator), ops_(ops) {}

  ops::mx::array forward(
      int layer,
      const ops::mx::array& x,
      const ops::Routing& routing) override;

 private:
  ops::MlxOps& ops_;
};

} // namespace mlx_flash
