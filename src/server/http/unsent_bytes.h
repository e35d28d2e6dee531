// What waits for clients to read it, of all connections of a server. While less
// than half of what may wait does, it is there for whoever needs it, up to all
// of it; of the other half each connection has its share at any time, so that
// those who read are not cut off for those who do not. So it is never more than
// all and half as much again.
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

  // Of an answer that `counted` bytes are counted of now.
  //
  // Whether `part` may be added to so many bytes of a stream that wait. Who is
  // not behind may be given a large one.
  bool has_room(uint64_t waiting, uint64_t part, uint64_t counted) const {
    const uint64_t others = all_ - counted;
    return waiting <= most_each_ &&
        (waiting + part <= share_ ||
         ((waiting <= share_ || others + waiting <= half_) &&
          others + waiting + part <= 2 * half_));
  }
  // Whether so many bytes may wait, or be gathered, in place of these. Any
  // size: one whose memory has a budget of its own.
  bool has_room_for(uint64_t own, uint64_t counted, bool any_size = false)
      const {
    const uint64_t others = all_ - counted;
    return own <= share_ ||
        (others <= half_ && (any_size || others + own <= 2 * half_));
  }

 private:
  const uint64_t most_each_;
  const uint64_t half_;
  const uint64_t share_;
  std::atomic<uint64_t> all_ = 0;
};

} // namespace mlx_flash::server
