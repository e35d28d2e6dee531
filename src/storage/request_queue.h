// The requests of a reader, from submit to completion: cuts them into windows
// for a device, in order, and completes each once its last window has ended.
// No I/O and no threads; uring_reader and pread_reader bring those.
//
// Thread rule: one thread at a time (pread_reader holds a mutex).
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "platform/direct_file.h"
#include "storage/read_window.h"
#include "storage/reader.h"

namespace mlx_flash {

// The line that a failed read's completion carries.
std::string describe_failure(
    const std::string& file,
    const ReadRequest& request,
    std::string_view cause);

class RequestQueue {
 public:
  // A window of a request; `request` is for finish().
  struct Piece {
    uint32_t request = 0;
    uint32_t file = 0;
    Window window;
  };

  // `files` must outlive the queue.
  RequestQueue(const std::vector<DirectFile>& files, uint64_t block_bytes);

  void push(const ReadRequest& request);

  // The next window to read, of the oldest request that has any left.
  std::optional<Piece> next();
  bool has_next() const {
    return !waiting_.empty();
  }

  // A window has ended: well, or with `cause`. The request's other windows
  // that have not begun are then left out.
  void finish(uint32_t request, const std::string* cause);

  // Moves what is complete to the end of `completions`; returns how many.
  size_t take(std::vector<ReadCompletion>& completions);
  bool has_completions() const {
    return !complete_.empty();
  }

  // Requests that were pushed and not taken.
  size_t outstanding() const {
    return outstanding_;
  }

 private:
  struct Active {
    ReadRequest request;
    WindowCutter cutter;
    uint32_t in_flight = 0;
    std::optional<std::string> error;
  };

  std::optional<std::string> impossible(const ReadRequest& request) const;
  std::string describe(const ReadRequest& request, std::string_view cause)
      const;
  void complete(uint64_t tag, std::optional<std::string> error);

  const std::vector<DirectFile>& files_;
  const uint64_t block_bytes_;
  std::vector<Active> active_;
  std::vector<uint32_t> free_;
  std::deque<uint32_t> waiting_; // requests with windows that have not begun
  std::vector<ReadCompletion> complete_;
  size_t outstanding_ = 0;
};

} // namespace mlx_flash
