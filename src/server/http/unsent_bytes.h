// What waits for clients to read it, of all connections of a server. One half
// of what may wait is there for whoever needs it; of the other each connection
// has its share at any time, so that those who read are not cut off for those
// who do not.
//
// Thread rule: any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "server/server_options.h"

namespace mlx_flash::server {

class UnsentBytes {
 public:
  explicit UnsentBytes(const ServerLimits& limits)
      : most_each_(limits.unsent_bytes),
        half_(limits.all_unsent_bytes / 2),
        share_(half_ / std::max<uint64_t>(1, limits.connections)) {}

  // Of one answer: it was `before`.
  void change(uint64_t before, uint64_t now) {
    all_ += now - before;
  }
  uint64_t all() const {
    return all_;
  }

  // Whether more may be added to `own` bytes of a stream that wait.
  bool has_room(uint64_t own) const {
    return own <= most_each_ && has_room_for(own);
  }
  // Whether a whole answer of so many bytes may wait, in place of so many that
  // were gathered for it.
  bool has_room_for(uint64_t own, uint64_t gathered = 0) const {
    return own <= share_ || all_ - gathered <= half_;
  }

 private:
  const uint64_t most_each_;
  const uint64_t half_;
  const uint64_t share_;
  std::atomic<uint64_t> all_ = 0;
};

} // namespace mlx_flash::server
