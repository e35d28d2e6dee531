// Brings experts from disk into slots: begins fills in the bank, reads their
// sections, and hands each expert over, leased, when all of it has arrived.
//
//   if (!fetcher.start(key)) ...     // no slot: compute or wait, then again
//   fetcher.submit();                // all started reads go out at once
//   while (auto fetched = fetcher.wait()) ...
//
// Thread rule: used by the step thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "mlx_flash/stats.h"
#include "residency/slot_bank.h"
#include "storage/checksums.h"
#include "storage/expert_layout.h"
#include "storage/reader.h"

namespace mlx_flash {

// An expert that arrived, or the reason why it did not. After an error its
// slot is free again and the expert is not resident.
struct Fetched {
  ExpertKey key;
  std::optional<SlotBank::Lease> lease;
  std::string error; // one line with file, offset and cause; empty if leased
};

class ExpertFetcher {
 public:
  // All must outlive the fetcher. `checksums` may be null.
  ExpertFetcher(
      SlotBank& bank,
      Reader& reader,
      const ExpertLayout& layout,
      const ChecksumTable* checksums = nullptr);
  // Waits for what is in flight and drops it.
  ~ExpertFetcher();

  // Takes a slot for `key`, which is not resident and not in flight, and
  // queues its reads for the next submit(). False when no slot is free.
  [[nodiscard]] bool start(ExpertKey key);

  // Hands all queued reads to the reader, in the order of start().
  void submit();

  // The next expert that is done, waiting for it if need be. Empty when
  // nothing is in flight.
  std::optional<Fetched> wait();

  // The same without waiting: empty when none is done yet.
  std::optional<Fetched> poll();

  // Lets the reader go on with what is queued, without waiting and without
  // handing anything over: called now and then between computations.
  void pump();

  // Waits until nothing is in flight and drops what arrives.
  void abandon();

  // Experts started and not yet handed over.
  size_t in_flight() const {
    return active_;
  }
  uint64_t fetched_experts() const {
    return fetched_;
  }
  // Time spent in wait() with nothing done yet.
  double stall_seconds() const {
    return stall_seconds_;
  }
  // From handing an expert's reads to the reader until the last one is seen.
  const LatencyHistogram& read_latency() const {
    return read_latency_;
  }

 private:
  struct Flight {
    std::optional<SlotBank::Filling> filling;
    ExpertKey key;
    uint32_t missing = 0; // sections that have not completed
    double submitted = 0; // now_seconds()
    std::optional<std::string> error; // of the first section that failed
  };

  void handle(const ReadCompletion& completion);
  void check(Flight& flight, size_t section);
  size_t drain_reader(bool may_wait);
  std::optional<Fetched> take_done();

  SlotBank& bank_;
  Reader& reader_;
  const ExpertLayout& layout_;
  const ChecksumTable* checksums_;
  std::vector<Flight> flights_;
  std::vector<uint32_t> free_flights_; // indices of flights_, as is done_
  std::deque<uint32_t> done_; // in the order of completion
  std::vector<ReadRequest> queued_;
  std::vector<ReadCompletion> completions_;
  size_t active_ = 0;
  uint64_t fetched_ = 0;
  double stall_seconds_ = 0;
  LatencyHistogram read_latency_;
};

} // namespace mlx_flash
