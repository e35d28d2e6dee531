#include "residency/expert_fetcher.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"

namespace mlx_flash {

namespace {

// A tag names a flight and one of its sections.
constexpr int kSectionBits = 8;

uint64_t make_tag(uint32_t flight, size_t section) {
  return uint64_t{flight} << kSectionBits | section;
}
uint32_t flight_of(uint64_t tag) {
  return static_cast<uint32_t>(tag >> kSectionBits);
}
size_t section_of(uint64_t tag) {
  return tag & ((1 << kSectionBits) - 1);
}

} // namespace

ExpertFetcher::ExpertFetcher(
    SlotBank& bank,
    Reader& reader,
    const ExpertLayout& layout,
    const ChecksumTable* checksums)
    : bank_(bank), reader_(reader), layout_(layout), checksums_(checksums) {
  MLX_FLASH_CHECK(bank.slot_bytes() >= layout.slot_bytes());
}

ExpertFetcher::~ExpertFetcher() {
  abandon();
}

bool ExpertFetcher::start(ExpertKey key) {
  auto filling = bank_.begin_fill(key);
  if (!filling) {
    return false;
  }
  if (free_flights_.empty()) {
    free_flights_.push_back(static_cast<uint32_t>(flights_.size()));
    flights_.emplace_back();
  }
  const uint32_t index = free_flights_.back();
  free_flights_.pop_back();
  ++active_;

  const auto sections = layout_.sections(key);
  MLX_FLASH_CHECK(!sections.empty() && sections.size() <= 1 << kSectionBits);
  const auto slot = filling->bytes();
  for (size_t i = 0; i < sections.size(); ++i) {
    const Section& section = sections[i];
    queued_.push_back(
        {.file = section.file,
         .offset = section.file_offset,
         .dest = slot.subspan(section.slot_offset, section.bytes),
         .tag = make_tag(index, i),
         .room = section.block_bytes});
  }
  Flight& flight = flights_[index];
  flight.filling = std::move(filling);
  flight.key = key;
  flight.missing = static_cast<uint32_t>(sections.size());
  flight.error.reset();
  return true;
}

void ExpertFetcher::submit() {
  if (!queued_.empty()) {
    const double now = now_seconds();
    for (const ReadRequest& request : queued_) {
      flights_[flight_of(request.tag)].submitted = now;
    }
    reader_.submit(queued_);
    queued_.clear();
  }
}

std::optional<Fetched> ExpertFetcher::wait() {
  submit();
  if (auto fetched = poll(); fetched || active_ == 0) {
    return fetched;
  }
  const double start_seconds = now_seconds();
  while (done_.empty()) {
    // Every section in flight owes a completion.
    const size_t arrived = drain_reader(/*may_wait=*/true);
    MLX_FLASH_CHECK(arrived > 0);
  }
  stall_seconds_ += now_seconds() - start_seconds;
  return take_done();
}

std::optional<Fetched> ExpertFetcher::poll() {
  drain_reader(/*may_wait=*/false);
  return take_done();
}

void ExpertFetcher::pump() {
  if (done_.size() < active_) {
    drain_reader(/*may_wait=*/false);
  }
}

void ExpertFetcher::abandon() {
  for (const ReadRequest& request : queued_) {
    handle({.tag = request.tag, .error = "[expert] not read"});
  }
  queued_.clear();
  // Slots are freed only when the reader has let go of them.
  while (done_.size() < active_) {
    const size_t arrived = drain_reader(/*may_wait=*/true);
    MLX_FLASH_CHECK(arrived > 0);
  }
  for (const uint32_t index : done_) {
    flights_[index].filling.reset();
    free_flights_.push_back(index);
  }
  done_.clear();
  active_ = 0;
}

size_t ExpertFetcher::drain_reader(bool may_wait) {
  completions_.clear();
  const size_t count =
      may_wait ? reader_.wait(completions_) : reader_.poll(completions_);
  for (const ReadCompletion& completion : completions_) {
    handle(completion);
  }
  return count;
}

// A flight is done when all of its sections have completed, failed or not:
// until then the reader may still write into the slot.
void ExpertFetcher::handle(const ReadCompletion& completion) {
  const uint32_t index = flight_of(completion.tag);
  MLX_FLASH_CHECK(index < flights_.size() && flights_[index].missing > 0);
  Flight& flight = flights_[index];
  if (!flight.error) {
    if (completion.error) {
      flight.error = completion.error;
    } else {
      check(flight, section_of(completion.tag));
    }
  }
  if (--flight.missing == 0) {
    if (!flight.error) {
      read_latency_.observe(now_seconds() - flight.submitted);
    }
    done_.push_back(index);
  }
}

void ExpertFetcher::check(Flight& flight, size_t section_index) {
  if (!checksums_) {
    return;
  }
  const Section& section = layout_.sections(flight.key)[section_index];
  const auto bytes =
      flight.filling->bytes().subspan(section.slot_offset, section.bytes);
  flight.error = checksums_->check(section.file, section.file_offset, bytes);
}

std::optional<Fetched> ExpertFetcher::take_done() {
  if (done_.empty()) {
    return std::nullopt;
  }
  const uint32_t index = done_.front();
  done_.pop_front();
  free_flights_.push_back(index);
  --active_;
  Flight& flight = flights_[index];
  Fetched fetched;
  fetched.key = flight.key;
  if (!flight.error) {
    fetched.lease = std::move(*flight.filling).commit();
    ++fetched_;
  } else {
    fetched.error = fmt::format(
        "[expert] layer {} expert {}: {}",
        flight.key.layer,
        flight.key.expert,
        *flight.error);
  }
  flight.filling.reset();
  return fetched;
}

} // namespace mlx_flash
