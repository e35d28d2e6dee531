// Reads with a few threads of their own, one system call at a time each, and
// one staging block per thread: for systems without io_uring.
//
// Thread rule: as Reader; the threads are the reader's own.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "base/aligned_buffer.h"
#include "storage/reader.h"
#include "storage/request_queue.h"

namespace mlx_flash {

class PreadReader : public Reader {
 public:
  // As DirectFile::read_at. Tests put other results in its place.
  using ReadAt = std::function<
      int64_t(const DirectFile&, uint64_t offset, std::span<std::byte> dest)>;

  PreadReader(
      std::vector<DirectFile> files,
      const ReaderOptions& options,
      ReadAt read_at = &DirectFile::read_at);
  // Waits for the reads that have begun and forgets the others.
  ~PreadReader() override;

  std::string_view name() const override;
  void submit(std::span<const ReadRequest> requests) override;
  size_t wait(std::vector<ReadCompletion>& completions) override;
  size_t poll(std::vector<ReadCompletion>& completions) override;
  size_t outstanding() const override;
  uint64_t device_bytes() const override;
  uint64_t staging_bytes() const override;
  int depth() const override;

 private:
  void work(std::byte* staging);
  // Reads a piece to its end; the cause when it failed.
  std::optional<std::string> read(
      const RequestQueue::Piece& piece,
      std::byte* staging,
      uint64_t& asked_bytes);

  const std::vector<DirectFile> files_;
  const ReadAt read_at_;
  AlignedBuffer staging_;

  mutable std::mutex mutex_;
  std::condition_variable work_there_;
  std::condition_variable complete_there_;
  RequestQueue queue_; // guarded by mutex_, as what follows
  uint64_t device_bytes_ = 0;
  bool stopping_ = false;

  std::vector<std::thread> threads_;
};

} // namespace mlx_flash
