#include "storage/pread_reader.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"

namespace mlx_flash {

namespace {

// More threads than this bring an SSD nothing that a program of a few compute
// threads could use.
constexpr int kMaxThreads = 8;

} // namespace

PreadReader::PreadReader(
    std::vector<DirectFile> files,
    const ReaderOptions& options,
    ReadAt read_at)
    : files_(std::move(files)),
      read_at_(std::move(read_at)),
      staging_(
          static_cast<size_t>(std::min(options.staging_blocks(), kMaxThreads)) *
          options.block_bytes),
      queue_(files_, options.block_bytes) {
  const int threads = std::min(options.staging_blocks(), kMaxThreads);
  try {
    for (int i = 0; i < threads; ++i) {
      std::byte* staging =
          staging_.data() + static_cast<uint64_t>(i) * options.block_bytes;
      threads_.emplace_back([this, staging] { work(staging); });
    }
  } catch (const std::system_error& error) {
    // Where the number of threads is limited, fewer do.
    if (threads_.empty()) {
      fail(ErrorCode::io, "[reader] cannot start a thread: {}", error.what());
    }
  }
}

PreadReader::~PreadReader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_there_.notify_all();
  for (auto& thread : threads_) {
    thread.join();
  }
}

std::string_view PreadReader::name() const {
  return "pread";
}

void PreadReader::submit(std::span<const ReadRequest> requests) {
  {
    std::lock_guard lock(mutex_);
    for (const auto& request : requests) {
      queue_.push(request);
    }
  }
  work_there_.notify_all();
}

size_t PreadReader::wait(std::vector<ReadCompletion>& completions) {
  std::unique_lock lock(mutex_);
  complete_there_.wait(lock, [this] {
    return queue_.has_completions() || queue_.outstanding() == 0;
  });
  return queue_.take(completions);
}

size_t PreadReader::poll(std::vector<ReadCompletion>& completions) {
  std::lock_guard lock(mutex_);
  return queue_.take(completions);
}

size_t PreadReader::outstanding() const {
  std::lock_guard lock(mutex_);
  return queue_.outstanding();
}

uint64_t PreadReader::device_bytes() const {
  std::lock_guard lock(mutex_);
  return device_bytes_;
}

uint64_t PreadReader::staging_bytes() const {
  return staging_.size();
}

int PreadReader::depth() const {
  return static_cast<int>(threads_.size());
}

void PreadReader::work(std::byte* staging) {
  std::unique_lock lock(mutex_);
  while (true) {
    work_there_.wait(lock, [this] { return stopping_ || queue_.has_next(); });
    if (stopping_) {
      return;
    }
    const auto piece = *queue_.next();
    lock.unlock();
    uint64_t asked_bytes = 0;
    const auto cause = read(piece, staging, asked_bytes);
    lock.lock();
    device_bytes_ += asked_bytes;
    queue_.finish(piece.request, cause ? &*cause : nullptr);
    if (queue_.has_completions()) {
      complete_there_.notify_one();
    }
  }
}

std::optional<std::string> PreadReader::read(
    const RequestQueue::Piece& piece,
    std::byte* staging,
    uint64_t& asked_bytes) {
  const DirectFile& file = files_[piece.file];
  WindowRead window(piece.window, file.alignment(), staging);
  while (true) {
    asked_bytes += window.target().size();
    const int64_t result = read_at_(file, window.offset(), window.target());
    switch (window.advance(result)) {
      case WindowRead::State::again:
        break;
      case WindowRead::State::done:
        window.deliver();
        return std::nullopt;
      case WindowRead::State::failed:
        return window.cause();
    }
  }
}

} // namespace mlx_flash
