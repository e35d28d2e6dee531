#include "storage/disk_speed.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "platform/large_pages.h"

namespace mlx_flash {

namespace {

constexpr uint64_t kPieceBytes = 1 << 20;
// Of memory that any device reads straight into.
constexpr uint64_t kAlignment = 4096;

// What is read as one: an expert's sections, or a piece of a tensor.
using Unit = std::span<const Section>;

std::vector<Section> pieces_of(const Checkpoint& checkpoint) {
  std::vector<Section> pieces;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    for (uint64_t at = 0; at < tensor.bytes; at += kPieceBytes) {
      pieces.push_back(
          {tensor.file,
           tensor.offset + at,
           std::min(kPieceBytes, tensor.bytes - at),
           0});
    }
  }
  return pieces;
}

std::vector<Unit> experts_of(const ExpertLayout& layout) {
  std::vector<Unit> units;
  for (const LayerExperts& layer : layout.layers()) {
    for (uint16_t expert = 0; expert < layer.experts; ++expert) {
      units.push_back(layout.sections({layer.layer, expert}));
    }
  }
  return units;
}

void shuffle(std::vector<Unit>& units, Rng& rng) {
  for (size_t i = units.size(); i > 1; --i) {
    std::swap(units[i - 1], units[rng.below(i)]);
  }
}

uint64_t memory_of(Unit unit) {
  uint64_t end = 0;
  for (const Section& section : unit) {
    end = std::max(
        end,
        round_up(section.slot_offset + section.bytes, section.block_bytes));
  }
  return end;
}

// Keeps several units on their way until the time is over.
class Stream {
 public:
  Stream(Reader& reader, std::vector<Unit> units, uint64_t bytes_in_flight)
      : reader_(reader), units_(std::move(units)) {
    uint64_t largest = 1;
    for (const Unit unit : units_) {
      largest = std::max(largest, memory_of(unit));
    }
    largest = round_up(largest, kAlignment);
    const uint64_t count = std::max<uint64_t>(
        2, std::min<uint64_t>(units_.size(), div_up(bytes_in_flight, largest)));
    memory_ = AlignedBuffer(count * largest);
    prefer_large_pages(memory_.span()); // as slots are
    // The first touch of fresh memory takes longer than a read into it.
    std::memset(memory_.data(), 0, memory_.size());
    for (uint64_t i = 0; i < count; ++i) {
      buffers_.push_back(memory_.span().subspan(i * largest, largest));
    }
    missing_.resize(buffers_.size());
  }

  // What is in flight writes to the buffers.
  ~Stream() {
    while (reader_.wait(completions_) > 0) {
      completions_.clear();
    }
  }

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  DiskSpeed run(double seconds) {
    const uint64_t bytes_before = reader_.device_bytes();
    const double begin = now_seconds();
    for (size_t i = 0; i < buffers_.size(); ++i) {
      start(i);
    }
    while (reader_.wait(completions_) > 0) {
      const bool goes_on = now_seconds() < begin + seconds;
      for (const ReadCompletion& completion : completions_) {
        if (completion.error) {
          fail(ErrorCode::io, "[disk] {}", *completion.error);
        }
        if (--missing_[completion.tag] == 0 && goes_on) {
          start(completion.tag);
        }
      }
      completions_.clear();
    }
    speed_.seconds = now_seconds() - begin;
    speed_.device_bytes = reader_.device_bytes() - bytes_before;
    return speed_;
  }

 private:
  // The next unit, into buffer `index`.
  void start(size_t index) {
    const Unit unit = units_[next_++ % units_.size()];
    requests_.clear();
    for (const Section& section : unit) {
      requests_.push_back(
          {.file = section.file,
           .offset = section.file_offset,
           .dest = buffers_[index].subspan(section.slot_offset, section.bytes),
           .tag = index,
           .room = section.block_bytes});
      speed_.bytes += section.bytes;
    }
    speed_.reads += unit.size();
    missing_[index] = unit.size();
    reader_.submit(requests_);
  }

  Reader& reader_;
  const std::vector<Unit> units_;
  AlignedBuffer memory_;
  std::vector<std::span<std::byte>> buffers_; // in it
  std::vector<size_t> missing_; // reads of the unit in each buffer
  size_t next_ = 0;
  std::vector<ReadRequest> requests_;
  std::vector<ReadCompletion> completions_;
  DiskSpeed speed_;
};

} // namespace

DiskSpeed measure_disk_speed(
    Reader& reader,
    const ReaderOptions& options,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    double seconds,
    uint64_t seed) {
  std::vector<Section> pieces; // that units point to
  std::vector<Unit> units = experts_of(layout);
  if (units.empty()) {
    pieces = pieces_of(checkpoint);
    for (const Section& piece : pieces) {
      units.emplace_back(&piece, 1);
    }
  }
  if (units.empty()) {
    return {};
  }
  Rng rng(seed);
  shuffle(units, rng);
  const uint64_t bytes_in_flight =
      2 * static_cast<uint64_t>(options.depth) * options.block_bytes;
  return Stream(reader, std::move(units), bytes_in_flight).run(seconds);
}

} // namespace mlx_flash
