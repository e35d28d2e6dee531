#include "platform/page_populator.h"

#include <algorithm>
#include <system_error>

#include "platform/cpu_facts.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>

#include "base/align.h"

#ifndef MADV_POPULATE_WRITE // Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif
#endif

namespace mlx_flash {

namespace {

// The process's map of memory is locked while a piece gets its pages.
constexpr size_t kPieceBytes = 2 << 20;

#ifdef __linux__
std::span<std::byte> whole_pages(std::span<std::byte> memory) {
  return whole_blocks(memory, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

// Where it fails, memory gets its pages when it is used.
void populate_now(std::span<std::byte> pages) {
  madvise(pages.data(), pages.size(), MADV_POPULATE_WRITE);
}
#else
std::span<std::byte> whole_pages(std::span<std::byte>) {
  return {}; // nothing is known that would give them their memory
}

void populate_now(std::span<std::byte>) {}
#endif

} // namespace

int populating_threads() {
  return std::min(usable_cpus(), 4);
}

PagePopulator::PagePopulator(int threads) {
  try {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  } catch (const std::system_error&) {
    // Fewer threads, or none: pages come when they are used.
  }
}

PagePopulator::~PagePopulator() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  for (auto& thread : threads_) {
    thread.join();
  }
}

void PagePopulator::populate(std::span<std::byte> memory) {
  const auto pages = whole_pages(memory);
  if (pages.empty() || threads_.empty()) {
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(pages);
  }
  changed_.notify_all();
}

void PagePopulator::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && busy_ == 0; });
}

void PagePopulator::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) {
      return;
    }
    auto& front = queue_.front();
    const auto piece = front.first(std::min(front.size(), kPieceBytes));
    front = front.subspan(piece.size());
    if (front.empty()) {
      queue_.pop_front();
    }
    ++busy_;
    lock.unlock();
    populate_now(piece);
    lock.lock();
    --busy_;
    if (queue_.empty() && busy_ == 0) {
      changed_.notify_all();
    }
  }
}

} // namespace mlx_flash
