// A reader over files kept in memory, with seeded faults: for tests.
//
// Thread rule: as Reader.
#pragma once

#include <deque>
#include <functional>

#include "base/rng.h"
#include "storage/reader.h"

namespace mlx_flash {

// Probabilities per device read, in [0, 1]. The same seed and requests give
// the same faults.
struct FaultPlan {
  uint64_t seed = 1;
  double delay = 0; // completes some waits later than it was submitted
  double reorder = 0; // is overtaken by a later one
  double short_read = 0; // returns some of the bytes; the reader goes on
  double io_error = 0; // EIO
  // A bit of the data is flipped and nobody says so; only checksums
  // (storage/checksums.h) can find it.
  double corruption = 0;
  // EIO always, for what reads a byte of [bad_begin, bad_end) of a file.
  uint64_t bad_begin = 0;
  uint64_t bad_end = 0;
};

// Until its completion a destination holds garbage, so that a caller who looks
// too early is found.
class MemoryReader : public Reader {
 public:
  struct File {
    std::string name; // for messages
    std::vector<std::byte> bytes;
  };

  MemoryReader(std::vector<File> files, FaultPlan faults);

  // The same over files on disk, read whole: small ones only.
  static std::unique_ptr<MemoryReader> load(
      const std::vector<std::filesystem::path>& files,
      FaultPlan faults);

  std::string_view name() const override;
  void submit(std::span<const ReadRequest> requests) override;
  size_t wait(std::vector<ReadCompletion>& completions) override;
  size_t poll(std::vector<ReadCompletion>& completions) override;
  size_t outstanding() const override;
  uint64_t device_bytes() const override;
  uint64_t staging_bytes() const override;
  int depth() const override;

  // From now on.
  void set_faults(FaultPlan faults);
  // How many faults of all kinds were injected.
  uint64_t injected() const {
    return injected_;
  }

 private:
  struct Pending {
    ReadRequest request;
    FaultPlan faults; // those of the time it was submitted
    Rng rng; // of this request alone: when it is polled does not matter
    int delay = 0; // turns until it may complete
    bool overtaken = false;
  };

  ReadCompletion perform(Pending& pending);
  bool inject(Pending& pending, double probability);
  size_t advance(std::vector<ReadCompletion>& completions);

  std::vector<File> files_;
  FaultPlan faults_;
  std::deque<Pending> pending_;
  uint64_t submitted_ = 0;
  uint64_t device_bytes_ = 0;
  uint64_t injected_ = 0;
};

} // namespace mlx_flash
