// Who may take part in steps: requests wait here, in the order in which they
// came, until there is room in the KV cache for what they have to read. Room
// for what they generate is found as they go on. Where there is none, what is
// kept for others goes first, then what sessions hold of which no request is
// active, and then the request that came last gives up its own and waits
// again. Who has lost it reads it once more, which gives the same bits.
//
// Thread rule: the engine thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/prefix_cache.h"
#include "engine/request.h"
#include "ops/kv_cache.h"

namespace mlx_flash {

using RequestPtr = std::shared_ptr<Request>;

inline bool has_not_ended(const RequestPtr& request) {
  return !request->ended;
}

class Admission {
 public:
  // At most `most_active` requests at once, `most_constrained` of them with
  // matchers, which those keep that wait again. Without `prefixes`, nothing is
  // kept for others.
  Admission(
      ops::KvCache& cache,
      PrefixCache* prefixes,
      size_t most_active,
      size_t most_constrained)
      : cache_(cache),
        prefixes_(prefixes),
        most_active_(most_active),
        most_constrained_(most_constrained) {}

  // Takes a request whose tokens fit the cache when it is empty.
  void wait(RequestPtr request);

  // Moves those to `active` whose turn has come.
  void admit(std::vector<RequestPtr>& active);

  // Room for one more token of each that is decoding, oldest first. Those that
  // find none end, if they are alone, or wait again.
  // `end_full` is called for the ones that have to end.
  void make_room_to_decode(
      std::vector<RequestPtr>& active,
      const std::function<void(Request&)>& end_full);

  // Makes room for so many tokens of a timeline, giving up what is not in use
  // if need be. False if there is not so much.
  bool reserve(const Timeline& timeline, size_t length);

  // Restores one page of an active request that has tokens stored.
  void restore_page(Request& request);

  // What has been read of a timeline may be of use to others.
  void keep(const Timeline& timeline);

  // The request is over, whether it was active or not.
  void let_go(Request& request);

  // The session is closed.
  void forget(const std::shared_ptr<Timeline>& timeline);

  // Those that wait.
  std::vector<RequestPtr>& waiting() {
    return waiting_;
  }
  const std::vector<RequestPtr>& waiting() const {
    return waiting_;
  }
  uint64_t preemptions() const {
    return preemptions_;
  }
  // That did not have to be read.
  uint64_t cached_tokens() const {
    return cached_tokens_;
  }

 private:
  bool has_matcher_for(
      const Request& request,
      const std::vector<RequestPtr>& active) const;
  bool try_admit(Request& request, size_t active);
  void read_again_what_was_lost(Request& request);
  bool could_make_room(const Timeline& timeline, size_t length, size_t active)
      const;
  bool drop_idle(const Timeline& except);
  bool make_headroom(const Timeline& timeline, size_t active);
  void preempt(std::vector<RequestPtr>& active, size_t index);

  ops::KvCache& cache_;
  PrefixCache* const prefixes_;
  const size_t most_active_;
  const size_t most_constrained_;
  std::vector<RequestPtr> waiting_; // by serial
  std::vector<std::shared_ptr<Timeline>> timelines_; // with a sequence
  uint64_t next_serial_ = 0;
  uint64_t preemptions_ = 0;
  uint64_t cached_tokens_ = 0;
};

} // namespace mlx_flash
