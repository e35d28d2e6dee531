// Asynchronous reads of weight files. Every request ends in exactly one
// completion; a failed or short read is an error in it, never silence and,
// once the reader is made, never an exception.
//
// Implementations: uring_reader (io_uring, O_DIRECT, registered buffers),
// pread_reader (a few threads, O_DIRECT or F_NOCACHE), memory_reader (for
// tests, with seeded faults). All read around the page cache. A request may
// have any alignment: of the aligned window around it, what may be written
// (ReadRequest::room) is read in place, and the rest by way of the reader's own
// staging blocks.
//
// Thread rule: one thread submits and waits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_flash {

struct ReadRequest {
  uint32_t file = 0; // index into the reader's files
  uint64_t offset = 0;
  std::span<std::byte> dest; // must stay valid until the completion
  uint64_t tag = 0; // returned in the completion
  // Around `dest`, the bytes up to the next addresses that are multiples of
  // `room`, a power of two, may be overwritten. Where file and memory agree
  // modulo the device's alignment, that saves the copy from staging.
  uint64_t room = 1;
};

struct ReadCompletion {
  uint64_t tag = 0;
  // Empty when every byte of `dest` has arrived. Otherwise one line with the
  // file, the offset and the cause; `dest` then holds garbage.
  std::optional<std::string> error;
};

class Reader {
 public:
  virtual ~Reader() = default;

  // "uring", "pread" or "memory".
  virtual std::string_view name() const = 0;

  // Queues reads, in this order, and starts as many as the depth allows.
  // Never waits. Any number may be queued; requests of length 0 complete at
  // once.
  virtual void submit(std::span<const ReadRequest> requests) = 0;

  // Appends the completions that are there, waiting for the first one if
  // there is none yet and a request is outstanding. Returns how many were
  // appended: 0 only when nothing is outstanding.
  virtual size_t wait(std::vector<ReadCompletion>& completions) = 0;

  // Like wait, but never waits.
  virtual size_t poll(std::vector<ReadCompletion>& completions) = 0;

  // Requests that have no completion yet.
  virtual size_t outstanding() const = 0;

  // Bytes asked of the device since construction, alignment included.
  virtual uint64_t device_bytes() const = 0;

  // Memory this reader holds for staging, in bytes.
  virtual uint64_t staging_bytes() const = 0;

  // Reads at the device at once, at most.
  virtual int depth() const = 0;
};

struct ReaderOptions {
  // Reads in flight at the device at once: it should have work for as long as
  // the thread that refills its queue computes.
  int depth = 64;
  // Size of one staging block, a multiple of 4096.
  uint64_t block_bytes = 1 << 20;
  // Reads in flight, at most, that go by way of staging.
  int most_staged = 16;

  // Staging takes staging_blocks() * block_bytes.
  int staging_blocks() const {
    return std::min(most_staged, depth);
  }
};

// A block that holds the largest window of a section of `section_bytes`, at
// least 16 KiB and at most 1 MiB.
uint64_t staging_block_bytes(uint64_t section_bytes);

// `kind`: "auto" (uring where the kernel allows it, else pread), "uring" or
// "pread". Throws Error(unsupported) for a kind that this system does not
// have, and Error(not_found | io) for a file that cannot be opened.
std::unique_ptr<Reader> make_reader(
    std::string_view kind,
    const std::vector<std::filesystem::path>& files,
    const ReaderOptions& options);

} // namespace mlx_flash
