#include "storage/memory_reader.h"

#include <cerrno>
#include <cstring>

#include "base/align.h"
#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/request_queue.h"

namespace mlx_flash {

MemoryReader::MemoryReader(std::vector<File> files, FaultPlan faults)
    : files_(std::move(files)), faults_(faults) {}

std::unique_ptr<MemoryReader> MemoryReader::load(
    const std::vector<std::filesystem::path>& paths,
    FaultPlan faults) {
  std::vector<File> files;
  for (const auto& path : paths) {
    const DirectFile file(path);
    std::vector<std::byte> bytes(file.size());
    file.read_exactly(0, bytes);
    files.push_back({path.string(), std::move(bytes)});
  }
  return std::make_unique<MemoryReader>(std::move(files), faults);
}

std::string_view MemoryReader::name() const {
  return "memory";
}

size_t MemoryReader::outstanding() const {
  return pending_.size();
}

uint64_t MemoryReader::device_bytes() const {
  return device_bytes_;
}

uint64_t MemoryReader::staging_bytes() const {
  return 0;
}

int MemoryReader::depth() const {
  return 1;
}

void MemoryReader::set_faults(FaultPlan faults) {
  faults_ = faults;
  submitted_ = 0;
}

bool MemoryReader::inject(Pending& pending, double probability) {
  const bool hit = pending.rng.uniform() < probability;
  injected_ += hit;
  return hit;
}

void MemoryReader::submit(std::span<const ReadRequest> requests) {
  for (const auto& request : requests) {
    const uint64_t seed = faults_.seed + ++submitted_ * 0x9E3779B97F4A7C15ull;
    Pending pending{request, faults_, Rng(seed)};
    if (inject(pending, faults_.delay)) {
      pending.delay = 1 + static_cast<int>(pending.rng.below(4));
    }
    pending.overtaken = pending.rng.uniform() < faults_.reorder;
    if (!request.dest.empty()) {
      std::memset(request.dest.data(), 0xA5, request.dest.size());
    }
    pending_.push_back(pending);
  }
}

size_t MemoryReader::wait(std::vector<ReadCompletion>& completions) {
  size_t count = 0;
  while (count == 0 && !pending_.empty()) {
    count = advance(completions);
  }
  return count;
}

size_t MemoryReader::poll(std::vector<ReadCompletion>& completions) {
  return advance(completions);
}

// One turn: completes what is not held back.
size_t MemoryReader::advance(std::vector<ReadCompletion>& completions) {
  std::deque<Pending> held;
  size_t count = 0;
  while (!pending_.empty()) {
    Pending pending = pending_.front();
    pending_.pop_front();
    if (pending.delay == 0 && pending.overtaken && !pending_.empty()) {
      // Stays one turn longer than the one behind it.
      pending.overtaken = false;
      pending.delay = pending_.front().delay + 1;
      ++injected_;
    }
    if (pending.delay > 0) {
      --pending.delay;
      held.push_back(pending);
    } else {
      completions.push_back(perform(pending));
      ++count;
    }
  }
  pending_ = std::move(held);
  return count;
}

ReadCompletion MemoryReader::perform(Pending& pending) {
  const ReadRequest& request = pending.request;
  const FaultPlan& faults = pending.faults;
  if (request.file >= files_.size()) {
    return {request.tag, "[reader] no such file"};
  }
  const File& file = files_[request.file];
  const auto failure = [&](std::string_view cause) {
    return ReadCompletion{
        request.tag, describe_failure(file.name, request, cause)};
  };
  const auto end = checked_add(request.offset, request.dest.size());
  if (!end || *end > file.bytes.size()) {
    return failure("the file ends before");
  }
  if (request.offset < faults.bad_end && *end > faults.bad_begin) {
    ++injected_;
    return failure(std::strerror(EIO));
  }
  size_t done = 0;
  while (done < request.dest.size()) {
    size_t bytes = request.dest.size() - done;
    device_bytes_ += bytes;
    if (inject(pending, faults.io_error)) {
      return failure(std::strerror(EIO));
    }
    if (bytes > 1 && inject(pending, faults.short_read)) {
      bytes = 1 + pending.rng.below(bytes - 1);
    }
    std::memcpy(
        request.dest.data() + done,
        file.bytes.data() + request.offset + done,
        bytes);
    if (inject(pending, faults.corruption)) {
      const uint64_t bit = pending.rng.below(bytes * 8);
      request.dest[done + bit / 8] ^= std::byte(1u << (bit % 8));
    }
    done += bytes;
  }
  return {request.tag, std::nullopt};
}

} // namespace mlx_flash
