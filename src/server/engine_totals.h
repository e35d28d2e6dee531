// What all engines of this process did together. An engine counts from 0, and
// there is another one whenever a model is loaded again.
//
// Thread rule: one thread at a time.
#pragma once

#include "mlx_flash/stats.h"

namespace mlx_flash::server {

class EngineTotals {
 public:
  // The last figures of an engine that is gone.
  void retire(const Stats& last);

  // Of those that are gone and the one that is there now (null: none). Only
  // the counters are set. None is ever less than at the last call: between an
  // engine's end and retire() the last figures stay.
  const Stats& with(const Stats* now);

  // How many engines there were until the last call of with().
  uint64_t engines() const {
    return engines_;
  }

 private:
  uint64_t gone_engines_ = 0;
  uint64_t engines_ = 0;
  Stats gone_;
  Stats shown_;
};

} // namespace mlx_flash::server
