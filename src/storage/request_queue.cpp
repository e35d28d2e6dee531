#include "storage/request_queue.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/align.h"

namespace mlx_flash {

std::string describe_failure(
    const std::string& file,
    const ReadRequest& request,
    std::string_view cause) {
  return fmt::format(
      "[reader] {}: reading {} bytes at offset {} failed: {}",
      file,
      request.dest.size(),
      request.offset,
      cause);
}

RequestQueue::RequestQueue(
    const std::vector<DirectFile>& files,
    uint64_t block_bytes)
    : files_(files), block_bytes_(block_bytes) {}

std::optional<std::string> RequestQueue::impossible(
    const ReadRequest& request) const {
  if (request.file >= files_.size()) {
    return fmt::format(
        "[reader] file number {} of {}", request.file, files_.size());
  }
  const auto end = checked_add(request.offset, request.dest.size());
  if (!end || *end > files_[request.file].size()) {
    return describe(
        request,
        fmt::format("the file ends at byte {}", files_[request.file].size()));
  }
  return std::nullopt;
}

std::string RequestQueue::describe(
    const ReadRequest& request,
    std::string_view cause) const {
  return describe_failure(files_[request.file].path().string(), request, cause);
}

void RequestQueue::complete(uint64_t tag, std::optional<std::string> error) {
  complete_.push_back({tag, std::move(error)});
}

void RequestQueue::push(const ReadRequest& request) {
  ++outstanding_;
  auto error = impossible(request);
  if (error || request.dest.empty()) {
    complete(request.tag, std::move(error));
    return;
  }
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(active_.size()));
    active_.emplace_back();
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  active_[index] = {
      request,
      WindowCutter(
          request.offset,
          request.dest,
          files_[request.file].alignment(),
          block_bytes_,
          request.room),
      0,
      std::nullopt};
  waiting_.push_back(index);
}

std::optional<RequestQueue::Piece> RequestQueue::next() {
  if (waiting_.empty()) {
    return std::nullopt;
  }
  const uint32_t index = waiting_.front();
  Active& active = active_[index];
  Piece piece{index, active.request.file, active.cutter.next()};
  ++active.in_flight;
  if (active.cutter.done()) {
    waiting_.pop_front();
  }
  return piece;
}

void RequestQueue::finish(uint32_t request, const std::string* cause) {
  Active& active = active_[request];
  --active.in_flight;
  if (cause && !active.error) {
    active.error = describe(active.request, *cause);
  }
  // Only the oldest waiting request can have windows in flight as well.
  if (active.error && !waiting_.empty() && waiting_.front() == request) {
    waiting_.pop_front();
    active.cutter = {};
  }
  if (active.in_flight == 0 && active.cutter.done()) {
    complete(active.request.tag, std::move(active.error));
    free_.push_back(request);
  }
}

size_t RequestQueue::take(std::vector<ReadCompletion>& completions) {
  const size_t count = complete_.size();
  std::move(
      complete_.begin(), complete_.end(), std::back_inserter(completions));
  complete_.clear();
  outstanding_ -= count;
  return count;
}

} // namespace mlx_flash
