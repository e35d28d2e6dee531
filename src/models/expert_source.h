// Where a layer's experts come from. A model asks; whether they are all in
// memory (resident_experts.h) or streamed from disk (engine/) it cannot tell,
// and the result is the same, bit for bit.
//
// Thread rule: the engine thread.
#pragma once

#include "ops/ops.h"

namespace mlx_flash {

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // A step begins: so many successive tokens of its longest sequence.
  virtual void begin_step(int tokens) = 0;

  // x [rows, hidden] through the experts that the router chose in `layer`,
  // added up with its weights: [rows, hidden]. Throws Error(io) when an expert
  // could not be had; the source is then ready for the next step.
  virtual ops::mx::array
  forward(int layer, const ops::mx::array& x, const ops::Routing& routing) = 0;
};

} // namespace mlx_flash
