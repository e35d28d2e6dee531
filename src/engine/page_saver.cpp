#include "engine/page_saver.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace mlx_flash {

PageSaver::PageSaver(ops::PagedKvCache& cache, PageStore& store)
    : cache_(cache), store_(store), thread_([this] { work(); }) {}

PageSaver::~PageSaver() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_at_ = now_seconds() + kLastSeconds;
  }
  changed_.notify_all();
  thread_.join();
  for (const Task& task : tasks_) {
    if (task.page) {
      written_.push_back(*task.page);
    }
  }
  release(std::move(written_));
}

void PageSaver::save(
    std::span<const TokenId> tokens,
    std::span<const uint32_t> pages) {
  constexpr size_t kPage = ops::kKvPageTokens;
  const size_t whole = tokens.size() / kPage;
  const auto text = std::make_shared<const std::vector<TokenId>>(
      tokens.begin(), tokens.end());
  for (size_t i = 0; i < pages.size(); ++i) {
    cache_.retain(pages[i]);
    pending_.insert(pages[i]);
    add({text, (whole - pages.size() + i + 1) * kPage, pages[i]});
  }
}

void PageSaver::use(std::span<const TokenId> tokens) {
  add(
      {std::make_shared<const std::vector<TokenId>>(
           tokens.begin(), tokens.end()),
       tokens.size(),
       std::nullopt});
}

void PageSaver::add(Task task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
}

void PageSaver::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty() || (stopping_ && now_seconds() > stop_at_)) {
      return;
    }
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    carry_out(task);
    lock.lock();
    if (task.page) {
      written_.push_back(*task.page);
      changed_.notify_all();
    }
  }
}

// What fails here is a page that is not kept, and never the engine.
void PageSaver::carry_out(const Task& task) {
  try {
    const auto tokens = std::span(*task.text).first(task.length);
    if (task.page) {
      store_.write(tokens, cache_.page(*task.page));
    } else {
      store_.use(tokens);
    }
  } catch (const std::exception& error) {
    log::warn("[prompt-cache] {}; a page is not kept", error.what());
  }
}

void PageSaver::settle() {
  std::vector<uint32_t> written;
  {
    const std::lock_guard lock(mutex_);
    written.swap(written_);
  }
  release(std::move(written));
}

bool PageSaver::wait(double seconds) {
  if (pending_.empty()) {
    return false;
  }
  std::vector<uint32_t> written;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] {
      return !written_.empty();
    });
    written.swap(written_);
  }
  const bool any = !written.empty();
  release(std::move(written));
  return any;
}

bool PageSaver::take_back(const std::function<bool(uint32_t page)>& may_go) {
  uint32_t page = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(tasks_.rbegin(), tasks_.rend(), [&](const Task& task) {
          return task.page && may_go(*task.page);
        });
    if (found == tasks_.rend()) {
      return false;
    }
    page = *found->page;
    tasks_.erase(std::next(found).base());
  }
  release({page});
  return true;
}

void PageSaver::release(std::vector<uint32_t> written) {
  for (const uint32_t page : written) {
    cache_.release(page);
    pending_.erase(page);
  }
}

} // namespace mlx_flash
