// Every expert in memory: the reference that streaming is compared with, and
// the fastest choice when there is room.
//
// Thread rule: as ExpertSource.
#pragma once

#include <map>

#include "models/expert_source.h"

namespace mlx_flash {

class ResidentExperts : public ExpertSource {
 public:
  struct Layer {
    ops::ExpertRecord record;
    ops::ExpertBank bank; // slot e holds expert e
  };

  // `ops` must outlive this.
  ResidentExperts(ops::Ops& ops, std::map<int, Layer> layers)
      : ops_(ops), layers_(std::move(layers)) {}

  void begin_step(int) override {}
  ops::mx::array forward(
      int layer,
      const ops::mx::array& x,
      const ops::Routing& routing) override {
    const Layer& l = layers_.at(layer);
    return ops_.experts(l.bank, l.record, x, routing.ids, routing.weights);
  }

 private:
  ops::Ops& ops_;
  std::map<int, Layer> layers_;
};

} // namespace mlx_flash
