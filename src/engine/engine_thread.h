// The thread that makes all MLX calls of one engine. MLX gives every thread
// that touches it streams and a worker that live as long as the process, so
// threads are reused: the process has as many as engines were ever open at
// once.
//
// Thread rule: constructed and destroyed anywhere.
#pragma once

#include <functional>
#include <memory>

namespace mlx_flash {

class EngineThread {
 public:
  // Runs `body` on an idle engine thread, or on a new one.
  explicit EngineThread(std::function<void()> body);
  // Waits until the body has returned; the thread becomes idle.
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

 private:
  struct Worker;
  std::shared_ptr<Worker> worker_;
};

} // namespace mlx_flash
