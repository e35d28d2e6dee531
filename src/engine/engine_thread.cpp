#include "engine/engine_thread.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace mlx_flash {

struct EngineThread::Worker {
  std::mutex mutex;
  std::condition_variable changed;
  std::function<void()> body; // empty while idle

  void loop() {
    for (;;) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return body != nullptr; });
      lock.unlock();
      body();
      lock.lock();
      body = nullptr;
      changed.notify_all();
    }
  }
};

namespace {

// Idle workers. Leaked on purpose: they outlive static destruction.
struct Idle {
  std::mutex mutex;
  std::vector<std::shared_ptr<void>> workers;
};
Idle& idle() {
  static Idle* instance = new Idle;
  return *instance;
}

} // namespace

EngineThread::EngineThread(std::function<void()> body) {
  {
    std::lock_guard lock(idle().mutex);
    if (!idle().workers.empty()) {
      worker_ = std::static_pointer_cast<Worker>(idle().workers.back());
      idle().workers.pop_back();
    }
  }
  if (!worker_) {
    worker_ = std::make_shared<Worker>();
    std::thread([worker = worker_] { worker->loop(); }).detach();
  }
  std::lock_guard lock(worker_->mutex);
  worker_->body = std::move(body);
  worker_->changed.notify_all();
}

EngineThread::~EngineThread() {
  {
    std::unique_lock lock(worker_->mutex);
    worker_->changed.wait(lock, [&] { return worker_->body == nullptr; });
  }
  std::lock_guard lock(idle().mutex);
  idle().workers.push_back(worker_);
}

} // namespace mlx_flash
